package atomicfile

import (
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
)

// Write puts data in the file path, durably: a reader sees the old content or
// the new, also after a crash. On an error the old content stays and nothing
// else is left.
func Write(path string, data []byte) error { return OS.Write(path, data) }

// Write is [Write] on this disk.
func (d Disk) Write(path string, data []byte) error {
	draft, err := d.NewDraft(path)
	if err != nil {
		return err
	}
	if _, err := draft.Write(data); err != nil {
		return errors.Join(err, draft.Abort())
	}
	return draft.Commit()
}

// tempName gives a hidden name beside path that nobody else has.
func tempName(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, "."+base+".tmp-"+strings.ToLower(rand.Text()[:10]))
}
