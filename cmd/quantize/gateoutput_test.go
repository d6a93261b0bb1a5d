package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/eval"
)

// A gate that fails is told as one, with all that can be written, when its directory is
// gone or nobody reads stdout any more.
func TestGateTellsAllItCan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closed, out := io.Pipe()
	_ = closed.Close() // a pipe's error is nil
	e := &env{out: out, err: io.Discard, output: outputJSON}
	r := &gateResult{Model: "out", Baseline: "x", baseline: []byte("{}"), Budgets: []eval.Verdict{{Model: "out", Status: eval.Fail}}}
	gone := filepath.Join(dir, "gone")
	o := gateOptions{junit: filepath.Join(gone, "gate.xml"), markdown: filepath.Join(dir, "gate.md")}
	r.Baseline = filepath.Join(gone, "baseline.json")
	err := e.tell(r, o)
	if exitCode(t.Context(), err) != exitGate || errorCode(exitGate, err) != "gate_failed" {
		t.Errorf("exit code %d, %s: %v", exitCode(t.Context(), err), errorCode(exitGate, err), err)
	}
	for _, want := range []string{"1 of 1 budgets exceeded", "baseline.json: cannot write", "gate.xml: cannot write", "found no directory " + gone, io.ErrClosedPipe.Error()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if !errors.Is(err, checkpoint.ErrOutput) || strings.Contains(err.Error(), ".tmp-") || r.Baseline != "" {
		t.Errorf("%v, baseline %q", err, r.Baseline)
	}
	if _, err := os.Stat(o.markdown); err != nil {
		t.Error(err)
	}
}
