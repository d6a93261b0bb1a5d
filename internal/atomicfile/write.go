package atomicfile

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Write puts data in the file path, durably: a reader sees the old content or
// the new, also after a crash. On an error the old content stays and nothing
// else is left.
func Write(path string, data []byte) error { return OS.Write(path, data) }

// Write is [Write] on this disk.
func (d Disk) Write(path string, data []byte) error {
	tmp := tempName(path)
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := d.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return d.SyncDir(filepath.Dir(path))
}

// tempName gives a hidden name beside path that nobody else has.
func tempName(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, "."+base+".tmp-"+strings.ToLower(rand.Text()[:10]))
}
