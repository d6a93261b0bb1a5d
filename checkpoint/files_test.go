package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestCheckFilesAndReadFile(t *testing.T) {
	t.Parallel()
	dir := makeDir(t, map[string][]byte{singleFile: shardBytes(goodA, 8), "tokenizer.json": []byte("{}")})
	r := open(t, dir)
	if err := r.CheckFiles(); err != nil {
		t.Error(err)
	}
	if data, err := ReadFile(dir, "tokenizer.json", 2); err != nil || string(data) != "{}" {
		t.Errorf("%q, %v", data, err)
	}
	_, err := ReadFile(dir, "tokenizer.json", 1)
	wantFault(t, err, ErrInvalid, "tokenizer.json", "2 bytes", "at most 1")
	if _, err := ReadFile(dir, "none.json", 1); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	for rel, c := range map[string]struct{ target, found string }{
		"merges.txt": {"nowhere", "a symbolic link to a file that does not exist"},
		"vocab.json": {"/etc/passwd", "a symbolic link that leaves the directory"},
	} {
		if err := os.Symlink(c.target, filepath.Join(dir, rel)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
		wantFault(t, open(t, dir).CheckFiles(), ErrInvalid, rel, c.found, "file")
		_, err := ReadFile(dir, rel, 1<<20)
		wantFault(t, err, ErrInvalid, rel, c.found, "file")
		if err := os.Remove(filepath.Join(dir, rel)); err != nil {
			t.Fatal(err)
		}
	}
}
