package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Draft is a file that is written piece by piece and appears at its place when
// it is whole. It is not safe for concurrent use.
type Draft struct {
	disk      Disk
	path, tmp string
	f         File
}

// NewDraft starts the file path.
func NewDraft(path string) (*Draft, error) { return OS.NewDraft(path) }

// NewDraft is [NewDraft] on this disk.
func (d Disk) NewDraft(path string) (*Draft, error) {
	tmp := tempName(path)
	f, err := d.Create(tmp)
	if err != nil {
		return nil, err
	}
	return &Draft{disk: d, path: path, tmp: tmp, f: f}, nil
}

// Write appends data.
func (d *Draft) Write(data []byte) (int, error) { return d.f.Write(data) }

// Commit puts the file at its place, durably, over what was there. On an error
// nothing is left of it.
func (d *Draft) Commit() error {
	err := d.f.Sync()
	if err := errors.Join(err, d.f.Close()); err != nil {
		return errors.Join(err, os.Remove(d.tmp))
	}
	if err := d.disk.Rename(d.tmp, d.path); err != nil {
		return errors.Join(err, os.Remove(d.tmp))
	}
	return d.disk.SyncDir(filepath.Dir(d.path))
}

// Abort removes what was written; it takes the place of Commit.
func (d *Draft) Abort() error { return errors.Join(d.f.Close(), os.Remove(d.tmp)) }
