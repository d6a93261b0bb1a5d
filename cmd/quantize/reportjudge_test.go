package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"quantize/eval"
	"quantize/eval/report"
	"quantize/recipe"
)

// inspect judges the checkpoint it shows by its own results, whatever others lie beside them
// and whatever its directory was called when they were kept.
func TestJudgeOwnResults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, out, budget := filepath.Join(dir, "m"), filepath.Join(dir, "out"), filepath.Join(dir, "gate.yaml")
	if err := writeModel(base, tinyShape(1)); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load("rtn")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&env{out: io.Discard, err: io.Discard}).quantize(t.Context(), job{model: base, out: out, recipe: r}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(budget, []byte("budgets:\n- {metric: perplexity, max: 10}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	result := func(model, text, arithmetic string, perplexity float64) eval.Report {
		return eval.Report{Result: eval.Result{Model: model, Text: text, Arithmetic: arithmetic, Perplexity: perplexity}}
	}
	kept := []eval.Report{
		result("old-name", "a", "lut", 9), result("old-name", "a", "exact", 99), result("old-name", "b", "lut", 11),
		result("plain", "a", "lut", 50), result("plain", "c", "lut", 5), result("out", "a", "lut", 1),
	}
	if err := report.SaveResults(out, kept); err != nil {
		t.Fatal(err)
	}
	l, err := load(out)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	got, err := judge(l, out, budget)
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %+v", err, got)
	}
	for i, want := range []eval.Verdict{{Text: "a", Value: 9, Status: eval.Pass}, {Text: "b", Value: 11, Status: eval.Fail}} {
		if v := got[i]; v.Model != "out" || v.Text != want.Text || v.Value != want.Value || v.Status != want.Status {
			t.Errorf("%+v, want %+v", v, want)
		}
	}
}
