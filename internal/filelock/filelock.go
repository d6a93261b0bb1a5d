package filelock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// HeldError says that another process has the lock.
type HeldError struct {
	PID int // 0 where it has not told yet
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "in use by another process"
	}
	return fmt.Sprintf("in use by process %d", e.PID)
}

// errHeld is the answer of the system to a lock that another process has.
var errHeld = errors.New("held")

// Lock is a lock that is held.
type Lock struct {
	f         *os.File
	exclusive bool
}

// Exclusive says whether the lock keeps others out: not where the system, or a network
// file system, has no locks.
func (l *Lock) Exclusive() bool { return l != nil && l.exclusive }

// Acquire takes the lock of the file path, which is made where there is none, or
// fails at once: with a [HeldError] when another process has it.
func Acquire(path string) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		exclusive, err := lock(f)
		if err != nil {
			if errors.Is(err, errHeld) {
				err = &HeldError{PID: owner(f)}
			}
			return nil, errors.Join(err, f.Close())
		}
		if !current(f, path) {
			_ = f.Close() // the owner before removed it between our two calls
			continue
		}
		if err := f.Truncate(0); err == nil {
			_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
			_ = err // the number is for messages only, and a disk may be full
		}
		return &Lock{f, exclusive}, nil
	}
}

// Release gives the lock up. A caller that removes the file does so before.
func (l *Lock) Release() error { return l.f.Close() }

// current reports that path still names the file f.
func current(f *os.File, path string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(held, named)
}

func owner(f *os.File) int {
	data, _ := io.ReadAll(io.NewSectionReader(f, 0, 32)) // no number: the owner is not named
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}
