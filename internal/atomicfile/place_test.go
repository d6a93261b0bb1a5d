package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPutFollowsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "real", "deep"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "old"), []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"direct": "real/old", "twice": "direct", "sub": "real/deep", "real/deep/up": "../new", "absolute": filepath.Join(dir, "made"), "a": "b", "b": "a",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, file := range map[string]string{"twice": "real/old", "sub/up": "real/new", "absolute": "made", "plain": "plain"} {
		path, file = filepath.Join(dir, path), filepath.Join(dir, file)
		if err := errors.Join(CanPut(path), Put(path, []byte(path))); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != path {
			t.Errorf("%s: %q, %v", file, got, err)
		}
		if st, err := os.Lstat(path); err != nil || path != file && st.Mode().Type() != fs.ModeSymlink {
			t.Errorf("%s is now %v, %v", path, st, err)
		}
	}
	for path, want := range map[string]error{"a": syscall.ELOOP, "real": syscall.EISDIR, "none/x": fs.ErrNotExist, "real/old/x": syscall.ENOTDIR} {
		path = filepath.Join(dir, path)
		if err := CanPut(path); !errors.Is(err, want) {
			t.Errorf("CanPut(%s): %v", path, err)
		}
		if err := Put(path, nil); !errors.Is(err, want) {
			t.Errorf("Put(%s): %v", path, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "real", "deep"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"real/old", "real/other"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": "real/old", "sub": "real", "dangling": "real/new"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"real/old", "real/old", true},
		{"real/old", "link", true},
		{"sub/old", "link", true},
		{"real/deep/../old", "sub/old", true},
		{"dangling", "real/new", true},
		{"sub/new", "dangling", true},
		{"new", "sub/../new", true},
		{"real/old", "real/other", false},
		{"new", "real/new", false},
		{"none/x", "none/x", false},
		{"real", "real", false},
	} {
		// Not Join, which would take .. away.
		if got := Same(dir+"/"+c.a, dir+"/"+c.b); got != c.want {
			t.Errorf("%s, %s: %v", c.a, c.b, got)
		}
	}
	if Same(os.DevNull, os.DevNull) {
		t.Error("a device takes all that is written")
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if !Same("place_test.go", filepath.Join(wd, "place_test.go")) || !Same("./new", filepath.Join(wd, "new")) {
		t.Error("a relative path is told apart from the absolute one")
	}
}
