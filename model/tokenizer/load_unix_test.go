//go:build unix

package tokenizer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// TestLoadReadsRegularFilesInside: a named pipe would be waited for without an end, and a
// link may lead to what is not the model's.
func TestLoadReadsRegularFilesInside(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "other.json")
	if err := os.WriteFile(outside, []byte(tiny), 0o600); err != nil {
		t.Fatal(err)
	}
	link := func(target string) func(string) error {
		return func(path string) error { return os.Symlink(target, path) }
	}
	for _, c := range []struct {
		name, found string
		put         func(path string) error
	}{
		{"pipe", "a special file", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
		{"directory", "a directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"link that leaves", "a symbolic link that leaves the directory", link(outside)},
		{"link to nothing", "a symbolic link to a file that does not exist", link("nowhere")},
	} {
		for _, file := range []string{fileName, configName} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), []byte(tiny), 0o600); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, file)
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if err := c.put(path); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := Load(dir)
				done <- err
			}()
			select {
			case err := <-done:
				var f *fault.Error
				if !errors.Is(err, checkpoint.ErrInvalid) || !errors.As(err, &f) || f.Found != c.found || f.Hint == "" || !strings.HasSuffix(f.Where, file) {
					t.Errorf("%s as %s: %v", c.name, file, err)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s as %s: Load does not return", c.name, file)
			}
		}
	}
}
