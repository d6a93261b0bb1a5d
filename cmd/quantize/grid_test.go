package main

import (
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/recipe"
)

// TestFallenSchemeRoundsForWhatShips: where 128 does not divide a K, a W4A8 recipe
// writes what the W4A16 recipe writes, byte for byte, since W4A16 is all that ships.
// With gptq this covers the forward passes between the roundings.
func TestFallenSchemeRoundsForWhatShips(t *testing.T) {
	t.Parallel()
	shape := modeltest.Shapes()[0]
	shape.Hidden, shape.Intermediate, shape.HeadDim, shape.Heads = 64, 128, 32, 2 // down alone has 128
	dir := t.TempDir()
	if err := modeltest.Random(3, shape).Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{name: x, scheme: W4A8_FP8, weights: {rounding: rtn, search: true}}`,
		`{name: x, scheme: W4A8_FP8, weights: {rounding: rtn, grid: exact}}`,
		`{name: x, scheme: W4A8_FP8, weights: {rounding: gptq}}`,
		`{name: x, scheme: W4A8_FP8, smoothing: {method: fireq, search: true}}`,
	} {
		r, err := recipe.Decode("x", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		fallen := export(t, dir, r)
		weightOnly := export(t, dir, r.WithScheme(recipe.W4A16))
		if fallen.Grid != packer.GridWeightOnly || fallen.Scheme != packer.W4A16 || !maps.Equal(fallen.Tensors, weightOnly.Tensors) {
			t.Errorf("%s: scheme %s, grid %s, and other tensors than w4a16's", text, fallen.Scheme, fallen.Grid)
		}
	}
}

// export quantizes dir on random windows and returns the manifest.
func export(t *testing.T, dir string, r *recipe.Recipe) *packer.Manifest {
	t.Helper()
	l, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	e := &env{out: io.Discard, err: io.Discard}
	o, err := exportOptions(l.config, r)
	if err != nil {
		t.Fatal(err)
	}
	release, err := e.prepare(t.Context(), l, job{recipe: r}, randomWindows(l.config), &o)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := packer.Export(t.Context(), l.reader, out, o); err != nil {
		t.Fatal(err)
	}
	m, err := packer.ReadManifest(out)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := packer.Verify(t.Context(), out); err != nil || !v.OK {
		t.Errorf("verify: %v, %+v", err, slices.DeleteFunc(v.Checks, func(c packer.Check) bool { return c.OK }))
	}
	return m
}

func randomWindows(c *model.Config) [][]int32 {
	r := rand.New(rand.NewPCG(5, 5))
	windows := make([][]int32, 6)
	for i := range windows {
		for range 32 {
			windows[i] = append(windows[i], int32(r.IntN(c.Vocab)))
		}
	}
	return windows
}
