package atomicfile

import (
	"crypto/rand"
	"errors"
	"io"
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
	return d.WriteFrom(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFrom is [Write] of what content writes.
func (d Disk) WriteFrom(path string, content func(io.Writer) error) error {
	draft, err := d.NewDraft(path)
	if err != nil {
		return err
	}
	if err := content(draft); err != nil {
		return errors.Join(err, draft.Abort())
	}
	return draft.Commit()
}

// RemoveLeftovers removes what writers of path left that did not live to do it:
// the caller knows that none is at work.
func RemoveLeftovers(path string) error {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if mark, ok := strings.CutPrefix(e.Name(), "."+base+tempMark); ok && len(mark) == tempLength {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// What tempName puts after a name.
const (
	tempMark   = ".tmp-"
	tempLength = 10
)

// tempName gives a hidden name beside path that nobody else has.
func tempName(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, "."+base+tempMark+strings.ToLower(rand.Text()[:tempLength]))
}
