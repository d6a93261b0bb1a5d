package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quantize/checkpoint"
)

// failing runs the program, which must fail with code, and returns its error.
func failing(t *testing.T, c *exec.Cmd, code int) failure {
	t.Helper()
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Run(); c.ProcessState.ExitCode() != code {
		t.Fatalf("%v, exit code %d, want %d\n%s", err, c.ProcessState.ExitCode(), code, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	var f struct{ Error failure }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &f); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return f.Error
}

// nothing demands that a directory has only what is named.
func nothing(t *testing.T, dir string, but ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if i >= len(but) || e.Name() != but[i] {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestLockedOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeTiny(t, filepath.Join(dir, "m"), 1)
	out := filepath.Join(dir, "out")
	j, err := checkpoint.OpenJournal(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := failing(t, programCommand(t, "run", filepath.Join(dir, "m"), "-o", out), exitFailed)
	if f.Code != "output" || !strings.Contains(f.Message, fmt.Sprintf("in use by process %d", os.Getpid())) || f.Hint == "" {
		t.Errorf("a locked output: %+v", f)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	complete(t, "run", filepath.Join(dir, "m"), "-o", out)
	nothing(t, dir, "m", "out")
}

// A second demo in a directory would replace what the first one reads.
func TestLockedDemo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo")
	release, err := checkpoint.LockDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := failing(t, programCommand(t, "demo", "-o", dir), exitFailed)
	if f.Code != "output" || !strings.Contains(f.Message, fmt.Sprintf("in use by process %d", os.Getpid())) || f.Where != dir || f.Hint == "" {
		t.Errorf("a locked demo: %+v", f)
	}
	nothing(t, dir, ".lock")
	if err := release(); err != nil {
		t.Fatal(err)
	}
	nothing(t, dir)
}

// A limit on the size of files stands for a full disk: the space of the output is
// reserved first, so the run ends before its work and leaves nothing.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeTiny(t, filepath.Join(dir, "m"), 1)
	c := programCommand(t, "run", filepath.Join(dir, "m"), "-o", filepath.Join(dir, "out"))
	limited := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `ulimit -f 100; exec "$@"`, "sh"}, c.Args...)...)
	limited.Env = c.Env
	f := failing(t, limited, exitFailed)
	if f.Code != "output" || !strings.Contains(f.Where, "model.safetensors") || f.Hint == "" {
		t.Errorf("a full disk: %+v", f)
	}
	nothing(t, dir, "m")
}

func TestReadOnlyOutput(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("permissions do not hold root back; TestReadOnlyFileSystem does")
	}
	dir := t.TempDir()
	writeTiny(t, filepath.Join(dir, "m"), 1)
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	f := failing(t, programCommand(t, "run", filepath.Join(dir, "m"), "-o", filepath.Join(closed, "out")), exitFailed)
	if f.Code != "output" || f.Hint == "" {
		t.Errorf("a read-only output: %+v", f)
	}
	nothing(t, closed)
}

// A damaged part is told of and made again.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	model, out := filepath.Join(dir, "m"), filepath.Join(dir, "out")
	writeTiny(t, model, 3)
	complete(t, "run", model, "-o", filepath.Join(dir, "whole"))
	unfinished(t, job{model: model, out: out}, "rtn")
	parts, err := filepath.Glob(filepath.Join(dir, ".out.quantize", "block-0001*"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("parts %q, %v", parts, err)
	}
	data, err := os.ReadFile(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(parts[0], data[:len(data)-100], 0o644); err != nil {
		t.Fatal(err)
	}
	c := programCommand(t, "run", model, "-o", out)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	stdout, err := c.Output()
	if err != nil {
		t.Fatal(err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "block-0001 in ") || !strings.Contains(stderr.String(), "is damaged and made again") || !strings.Contains(string(stdout), `"resumed_blocks": 2`) {
		t.Errorf("stderr %s, stdout %s", stderr.String(), stdout)
	}
	if !maps.Equal(sums(t, out), sums(t, filepath.Join(dir, "whole"))) {
		t.Error("other bytes")
	}
}

// The hidden states of the calibration text, 33.5 MB of the embedded model, go to
// a file beyond --memory: less is resident, and the bytes are the same.
func TestMemoryCap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", filepath.Join(dir, "base"), "--recipe", "rtn-weighted", "--calib", filepath.Join(dir, "calibration.txt")}
	free := complete(t, append(args, "-o", filepath.Join(dir, "free"))...)
	capped := complete(t, append(args, "-o", filepath.Join(dir, "capped"), "--memory", "1MB")...)
	if free.PeakRSS == 0 {
		t.Skip("this system does not tell the peak")
	}
	const limit = 80 << 20
	if capped.PeakRSS > limit || capped.PeakRSS > free.PeakRSS-20<<20 {
		t.Errorf("peak %d, without the cap %d, want at most %d and 20 MB less", capped.PeakRSS, free.PeakRSS, limit)
	}
	if !maps.Equal(sums(t, filepath.Join(dir, "free")), sums(t, filepath.Join(dir, "capped"))) {
		t.Error("other bytes")
	}
}
