package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"quantize/checkpoint"
	"quantize/eval"
	"quantize/recipe"
)

// TestEvaluatedChangedMeanwhile: what checkpoints give that somebody writes to is neither told
// nor kept under the hash of what they were.
func TestEvaluatedChangedMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, other, text := filepath.Join(dir, "m"), filepath.Join(dir, "other"), filepath.Join(dir, "demo", "evaluation.txt")
	for _, m := range []string{base, other} {
		if err := writeModel(m, tinyShape(1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unpackDemo(filepath.Join(dir, "demo")); err != nil {
		t.Fatal(err)
	}
	e := &env{out: io.Discard, err: io.Discard}
	evaluate := func(cache cacheOptions, change string) ([][]eval.Report, error) {
		m, err := e.measurement(t.Context(), []string{other}, evalOptions{texts: []string{text}, base: base, windows: 2, cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		defer m.close()
		if change != "" {
			weights := filepath.Join(change, "model.safetensors")
			invert(t, weights)
			defer invert(t, weights)
		}
		return m.run(t.Context(), false)
	}
	cache := cacheOptions{dir: filepath.Join(dir, "cache"), size: "1GiB"}
	for _, changed := range []string{base, other} {
		if r, err := evaluate(cache, changed); !errors.Is(err, checkpoint.ErrChanged) || exitCode(t.Context(), err) != exitCheckpoint {
			t.Errorf("%s changed: %v, %v", changed, r, err)
		}
		if kept, err := os.ReadDir(cache.dir); err != nil || len(kept) != 0 {
			t.Errorf("%s changed: the cache has %v, %v", changed, kept, err)
		}
	}
	want, err := evaluate(cacheOptions{off: true}, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds what the first kept
		got, err := evaluate(cache, "")
		if err != nil {
			t.Fatal(err)
		}
		if a, b := got[0][0], want[0][0]; a.Base.Perplexity != b.Base.Perplexity || a.KLMean != b.KLMean {
			t.Errorf("perplexity %v, KL %v, want %v, %v", a.Base.Perplexity, a.KLMean, b.Base.Perplexity, b.KLMean)
		}
	}
}

// What gate measures is what it opened first, also where another checkpoint takes the place
// meanwhile.
func TestGateOpensOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, out, text := filepath.Join(dir, "m"), filepath.Join(dir, "out"), filepath.Join(dir, "text.txt")
	if err := writeModel(base, tinyShape(1)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("It was the best of times."), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load("rtn")
	if err != nil {
		t.Fatal(err)
	}
	e := &env{out: io.Discard, err: io.Discard}
	if _, err := e.quantize(t.Context(), job{model: base, out: out, recipe: r}); err != nil {
		t.Fatal(err)
	}
	o := gateOptions{base: base}
	open, err := o.open([]string{out})
	if err != nil {
		t.Fatal(err)
	}
	defer open.close()
	m, err := e.measurement(t.Context(), []string{out}, evalOptions{texts: []string{text}, base: base, window: 4, cache: cacheOptions{off: true}, open: open})
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	if len(m.open) != 0 || m.full != open[base] {
		t.Errorf("%d checkpoints were opened once more", len(m.open))
	}
	if err := open[out].unchanged(); err != nil {
		t.Errorf("closed by who did not open it: %v", err)
	}
}
