package main

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"quantize/checkpoint"
	"quantize/recipe"
)

// TestSourceChangedMeanwhile: what is made of a source that somebody writes to is not kept.
// When the bytes are what they were, the next run gives those of an unbroken one.
func TestSourceChangedMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	model, text := filepath.Join(dir, "m"), filepath.Join(dir, "text.txt")
	if err := writeModel(model, tinyShape(2)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("It was the best of times, it was the worst of times, it was the age of wisdom."), 0o644); err != nil {
		t.Fatal(err)
	}
	e := &env{out: io.Discard, err: io.Discard}
	for name, text8 := range map[string]string{
		"rotated":  "{name: x, scheme: W4A8_FP8, rotation: {residual: hadamard}, weights: {rounding: rtn}}",
		"weighted": "{name: x, scheme: W4A8_FP8, weights: {rounding: rtn, importance: activations}, calibration: {samples: 2, window: 4, seed: 1}}",
		"gptq":     "{name: x, scheme: W4A8_FP8, weights: {rounding: gptq}, calibration: {samples: 2, window: 4, seed: 1}}",
	} {
		r, err := recipe.Decode(name, []byte(text8))
		if err != nil {
			t.Fatal(err)
		}
		j := job{model: model, out: filepath.Join(dir, name+"-whole"), recipe: r}
		if r.Calibrated() {
			j.calib = []string{text}
		}
		if _, err := e.quantize(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		want := sums(t, j.out)
		j.out = filepath.Join(dir, name)
		if kept := workOnChanged(t, e, j); kept != 0 {
			t.Errorf("%s: %d parts of the changed source are kept", name, kept)
		}
		if _, err := e.quantize(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(sums(t, j.out), want) {
			t.Errorf("%s: other bytes than those of an unbroken run", name)
		}
	}
}

// workOnChanged does a job whose source changes when its hashes are known, and changes it
// back. It returns the number of parts that are kept.
func workOnChanged(t *testing.T, e *env, j job) int {
	t.Helper()
	b := begun(t, e, j)
	invert(t, filepath.Join(j.model, "model.safetensors"))
	_, err := e.work(t.Context(), b.source, j, b.windows, b.options)
	if !errors.Is(err, checkpoint.ErrChanged) {
		t.Fatalf("error %v, want one of a changed source", err)
	}
	if told := j.kept(b.journal, b.source.config.Layers, err); told.Error() != err.Error() {
		t.Errorf("the user is told to go on: %v", told)
	}
	n := b.journal.Count("")
	e.closeJournal(b.journal, err)
	invert(t, filepath.Join(j.model, "model.safetensors"))
	return n
}

// invert flips the lowest bit of every fourth byte of the second half of a file: mantissas.
func invert(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 2 &^ 3; i < len(data); i += 4 {
		data[i] ^= 1
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
