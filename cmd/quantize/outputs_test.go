package main

import (
	"bytes"
	"strings"
	"testing"

	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/recipe"
)

// Linears that were rounded against a Hessian have the figures of their outputs;
// others have none, and inspect says nothing of them.
func TestOutputsWhereThereIsAHessian(t *testing.T) {
	t.Parallel()
	shape := modeltest.Shapes()[0]
	shape.Hidden, shape.Intermediate, shape.HeadDim, shape.Heads = 64, 128, 32, 2
	dir := t.TempDir()
	if err := modeltest.Random(3, shape).Write(dir); err != nil {
		t.Fatal(err)
	}
	for text, known := range map[string]bool{
		`{name: x, scheme: W4A16, weights: {rounding: gptq}}`:                         true,
		`{name: x, scheme: W4A16, weights: {rounding: gptq, target: full-precision}}`: true,
		`{name: x, scheme: W4A16, weights: {rounding: rtn}}`:                          false,
		`{name: x, scheme: W4A16, weights: {rounding: rtn, importance: activations}}`: false,
	} {
		r, err := recipe.Decode("x", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		layers := export(t, dir, r).Layers
		found := packer.Outputs(layers)
		if want := map[bool]int{true: len(layers)}[known]; len(found) != want || len(layers) == 0 {
			t.Errorf("%s: outputs of %d linears of %d", text, len(found), len(layers))
		}
		var out bytes.Buffer
		writeWorstOutputs(&out, layers)
		if lines := strings.Count(out.String(), "\n"); lines != map[bool]int{true: 1 + worstLayers}[known] {
			t.Errorf("%s:\n%s", text, out.String())
		}
		for _, o := range found {
			if o.SNR == nil || *o.SNR < 3 || o.Cosine == nil || *o.Cosine < 0.7 || *o.Cosine > 1 {
				t.Errorf("%s: %+v", text, o)
			}
		}
	}
}
