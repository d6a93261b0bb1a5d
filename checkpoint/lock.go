package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"quantize/internal/fault"
	"quantize/internal/filelock"
)

// patience is how long a held lock is asked for again: a process that was just
// killed has it until its memory is taken down.
const patience = time.Second

// patiently calls take until it has the lock on out, which another process may be
// about to give up.
func patiently(out string, take func() error) error {
	for start := time.Now(); ; time.Sleep(patience / 50) {
		err := take()
		var held *filelock.HeldError
		switch again := time.Since(start) < patience; {
		case err == nil:
			return nil
		case again && (errors.As(err, &held) || errors.Is(err, fs.ErrNotExist)):
		case errors.As(err, &held):
			return &fault.Error{
				Err: fmt.Errorf("%w: %w", ErrOutput, err), Where: out,
				Hint: "wait for that run or end it, or name another output",
			}
		default:
			return outputFault(out, err)
		}
	}
}

// LockDirectory makes dir where there is none, and holds it against others that ask
// for it by this function: it is for work that writes several outputs there. The file
// dir/.lock is gone after release.
func LockDirectory(dir string) (release func() error, err error) {
	path := filepath.Join(dir, "."+lockFile)
	var lock *filelock.Lock
	err = patiently(dir, func() (err error) {
		if err = os.MkdirAll(dir, 0o777); err == nil {
			lock, err = filelock.Acquire(path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(removeIfThere(path), lock.Release()) }, nil
}
