package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The first SIGINT asks the program to end. The second ends it, whatever it is doing:
// here it waits for a recipe from a pipe that nobody writes to.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	c := programCommand(t, "run", dir, "-o", filepath.Join(dir, "out"), "--recipe", pipe)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = c.Wait() // the process state says it
		close(ended)
	}()
	writer := openWhenRead(t, pipe)
	defer func() { _ = writer.Close() }() // nothing was written
	signal := func() {
		if err := c.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
	signal()
	select {
	case <-ended:
		t.Fatalf("the first signal: %v", c.ProcessState)
	case <-time.After(200 * time.Millisecond):
	}
	signal()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = c.Process.Kill() // it is ours
		t.Fatal("the second signal did not end the program")
	}
	if st := c.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != syscall.SIGINT {
		t.Errorf("ended with %v", c.ProcessState)
	}
}

// openWhenRead opens a named pipe for writing as soon as it has a reader.
func openWhenRead(t *testing.T, path string) *os.File {
	t.Helper()
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(5 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			return f
		}
		if !errors.Is(err, syscall.ENXIO) {
			t.Fatal(err)
		}
	}
	t.Fatal("the program does not read its recipe")
	return nil
}
