package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// Rounding with error propagation goes on from the residual streams that were
// kept, or by running the finished blocks again where those or an earlier block
// are gone: always to the same bytes.
func TestSequentialResumes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	model, recipe := filepath.Join(dir, "m"), filepath.Join(dir, "r.yaml")
	writeTiny(t, model, 4)
	const text = "name: r\nscheme: W4A8_FP8\nweights: {rounding: gptq, target: full-precision}\ncalibration: {samples: 2, window: 32, seed: 1}\nignore: [lm_head]\n"
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := func(out string) []string {
		return []string{"run", model, "-o", filepath.Join(dir, out), "--recipe", recipe, "--calib", filepath.Join(dir, "calibration.txt")}
	}
	complete(t, args("whole")...)
	want := sums(t, filepath.Join(dir, "whole"))
	for out, lost := range map[string][]string{
		"last":   {"block-0003.*"},
		"stream": {"block-0003.*", "stream.*"},
		"middle": {"block-0001.*", "block-0003.*"},
		"first":  {"block-0000.*"},
	} {
		unfinished(t, job{model: model, out: filepath.Join(dir, out), calib: []string{filepath.Join(dir, "calibration.txt")}}, recipe)
		for _, glob := range lost {
			found, err := filepath.Glob(filepath.Join(dir, "."+out+".quantize", glob))
			if err != nil || len(found) != 1 {
				t.Fatalf("%s: %q, %v", glob, found, err)
			}
			if err := os.Remove(found[0]); err != nil {
				t.Fatal(err)
			}
		}
		complete(t, args(out)...)
		if !maps.Equal(want, sums(t, filepath.Join(dir, out))) {
			t.Errorf("without %q: other bytes", lost)
		}
	}
}
