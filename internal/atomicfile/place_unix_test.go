//go:build unix

package atomicfile

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPutWritesIntoAPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o666); err != nil {
		t.Skip(err)
	}
	if err := CanPut(pipe); err != nil {
		t.Error(err)
	}
	read := make(chan []byte)
	go func() {
		f, err := os.Open(pipe)
		if err != nil {
			t.Error(err)
		}
		data, err := io.ReadAll(f)
		if err != nil {
			t.Error(err)
		}
		read <- data
	}()
	if err := Put(pipe, []byte("through")); err != nil {
		t.Fatal(err)
	}
	if got := <-read; string(got) != "through" {
		t.Errorf("%q", got)
	}
	if st, err := os.Lstat(pipe); err != nil || st.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("%v, %v", st, err)
	}
}
