package atomicfile

import (
	"errors"
	"os"
	"syscall"
)

// reserve allocates the blocks of f, so that a disk that is too small is
// reported before hours of work and not after. A file system that cannot
// allocate ahead only gets the size.
func reserve(f File, size int64) error {
	if file, ok := f.(*os.File); ok && size > 0 {
		err := syscall.Fallocate(int(file.Fd()), 0, 0, size)
		for errors.Is(err, syscall.EINTR) {
			err = syscall.Fallocate(int(file.Fd()), 0, 0, size)
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
			return &os.PathError{Op: "fallocate", Path: file.Name(), Err: err}
		}
	}
	return f.Truncate(size)
}
