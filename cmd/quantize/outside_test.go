package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// TestOutsideSeesThroughLinks: whatever the source and the output are called, none of the
// names leads into the source.
func TestOutsideSeesThroughLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(path string) string { return filepath.Join(dir, filepath.FromSlash(path)) }
	for _, d := range []string{"src/empty", "src-out", "other"} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"alias": "src", "other/in": "../src/empty", "chain": "alias", "dangling": "src/none", "beside": "other"} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	for _, c := range []struct{ source, out, found string }{
		{"src", "src", "inside the source"},
		{"src", "src/out", "inside the source"},
		{"src", "alias/out", "inside the source"},
		{"src", "alias/a/b/out", "inside the source"},
		{"alias", "src/out", "inside the source"},
		{"alias", "chain/out", "inside the source"},
		{"src", "other/in", "inside the source"},
		{"src", "beside/in/out", "inside the source"},
		{"src", "dangling", "a symbolic link to src/none"},
		{"src", "dangling/out", "a symbolic link to src/none"},
		{"alias", "alias/../out", ""},
		{"src", "src-out", ""},
		{"alias", "beside/out", ""},
		{"src/empty", "other/out", ""},
		{"missing", "out", ""},
	} {
		err := outside(at(c.source), at(c.out))
		var f *fault.Error
		switch {
		case c.found == "" && err != nil:
			t.Errorf("%s -> %s is refused: %v", c.source, c.out, err)
		case c.found != "" && (!errors.Is(err, checkpoint.ErrOutput) || !errors.As(err, &f) || !strings.Contains(f.Found, c.found) || f.Hint == ""):
			t.Errorf("%s -> %s: error %v, want one that finds %q", c.source, c.out, err, c.found)
		}
	}
	if err := outside(at("src"), ""); !errors.Is(err, checkpoint.ErrOutput) || !strings.Contains(err.Error(), "-o") {
		t.Errorf("an output without a name: %v", err)
	}
}
