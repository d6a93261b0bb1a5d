package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFullFileSystem fills a real file system, a tmpfs too small for the journal, for
// the tensors or for the last files: the run fails, leaves no output, and goes on
// where it was once there is room.
func TestFullFileSystem(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Parallel()
		mountable(t)
		return
	}
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	tiny, recipe := filepath.Join(dir, "tiny"), filepath.Join(dir, "sequential.yaml")
	writeTiny(t, tiny, 3)
	if err := os.WriteFile(recipe, []byte(sequentialRecipe), 0o644); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "calibration.txt")
	fill(t, filepath.Join(dir, "base"), "--recipe", "rtn")
	fill(t, tiny, "--recipe", recipe, "--calib", text)
}

// fill quantizes the model on disks of a share of the output's size.
func fill(t *testing.T, model string, flags ...string) {
	t.Helper()
	source := sums(t, model)
	run := func(out string) []string { return append([]string{"run", model, "-o", out}, flags...) }
	whole := model + "-whole"
	size := complete(t, run(whole)...).BytesOut
	want := sums(t, whole)
	for _, percent := range []int64{3, 50, 105} {
		t.Run(fmt.Sprintf("%s in %d %%", filepath.Base(model), percent), func(t *testing.T) {
			disk := tmpfs(t, size*percent/100)
			out := filepath.Join(disk, "out")
			refused(t, out, run(out))
			resize(t, disk, 16*size)
			complete(t, run(out)...)
			if !maps.Equal(want, sums(t, out)) {
				t.Error("other bytes than those of a run with room")
			}
			if entries, err := os.ReadDir(disk); err != nil || len(entries) != 1 {
				t.Errorf("beside the output: %v, %v", entries, err)
			}
		})
	}
	if !maps.Equal(source, sums(t, model)) {
		t.Errorf("%s was changed", model)
	}
}

// refused runs the program, which must fail for want of room and leave nothing but its journal.
func refused(t *testing.T, out string, args []string) {
	t.Helper()
	c := programCommand(t, args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	err := c.Run()
	t.Log(strings.TrimSpace(stderr.String()))
	if c.ProcessState == nil || c.ProcessState.ExitCode() != exitFailed {
		t.Fatalf("%v, want exit code %d", err, exitFailed)
	}
	lines := bytes.Split(bytes.TrimSpace(stderr.Bytes()), []byte("\n"))
	var failure struct {
		Error struct{ Where, Hint string }
	}
	if err := json.Unmarshal(lines[len(lines)-1], &failure); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(failure.Error.Hint, "free space") || failure.Error.Where == "" {
		t.Errorf("where %q, hint %q", failure.Error.Where, failure.Error.Hint)
	}
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".out.quantize" {
			t.Errorf("%s is left", e.Name())
		}
	}
}
