package atomicfile

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// File is what a staged file can do; an *os.File is one.
type File interface {
	io.Writer
	io.WriterAt
	Sync() error
	Close() error
	Truncate(size int64) error
}

// Disk is the set of calls that change the file system. Tests put failing ones
// in place of those of package os.
type Disk struct {
	Create func(path string) (File, error) // new file, fails if there is one
	Mkdir  func(path string) error
	Rename func(from, to string) error
	// SyncDir makes the names in a directory durable.
	SyncDir func(path string) error
	// Reserve gives f its full size. It fails with ENOSPC when the disk is too small.
	Reserve func(f File, size int64) error
}

// OS is the real disk.
var OS = Disk{
	Create: func(path string) (File, error) {
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	},
	Mkdir:   func(path string) error { return os.Mkdir(path, 0o777) },
	Rename:  os.Rename,
	SyncDir: syncDir,
	Reserve: reserve,
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil // some file systems have no fsync for directories
	}
	return errors.Join(err, d.Close())
}
