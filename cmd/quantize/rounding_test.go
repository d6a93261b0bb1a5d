package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/model/modeltest"
	"quantize/recipe"
)

// A calibrated recipe tells what FP8 activations and its cache cost, of what they touch
// alone; inspect says it.
func TestRoundingOfWhatIsRounded(t *testing.T) {
	t.Parallel()
	shape := modeltest.Shapes()[0]
	shape.Hidden, shape.Intermediate, shape.HeadDim, shape.Heads = 128, 256, 32, 4
	dir := t.TempDir()
	if err := modeltest.Random(3, shape).Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		recipe         string
		inputs, cached bool
		unscaled       bool
	}{
		{recipe: `{name: x, scheme: W4A16, weights: {importance: activations}}`},
		{recipe: `{name: x, scheme: W4A8_FP8, weights: {search: false}}`},
		{recipe: `{name: x, scheme: W4A8_FP8, weights: {importance: activations}}`, inputs: true},
		{recipe: `{name: x, scheme: W4A16, weights: {importance: activations}, kv: {format: int4, smooth: true}}`, cached: true},
		{recipe: `{name: x, scheme: W4A8_FP8, weights: {rounding: gptq}, rope: {method: fireq, alpha: 4, exponent: 1, top_k: 2, beta: 4}, kv: {format: int4}}`, inputs: true, cached: true, unscaled: true},
		{recipe: `{name: x, scheme: FP8_DYNAMIC, weights: {rounding: gptq}}`, inputs: true},
		{recipe: `{name: x, scheme: FP8_DYNAMIC, rope: {method: fireq, alpha: 4, exponent: 1}, kv: {format: fp8}}`, inputs: true, cached: true},
	} {
		r, err := recipe.Decode("x", []byte(c.recipe))
		if err != nil {
			t.Fatal(err)
		}
		m := export(t, dir, r)
		got := m.Rounding
		if (got != nil) != (c.inputs || c.cached) {
			t.Errorf("%s: %+v", c.recipe, got)
		}
		var out bytes.Buffer
		writeRounding(&out, got)
		if got == nil {
			if out.Len() > 0 {
				t.Errorf("%s: inspect says %s", c.recipe, out.String())
			}
			continue
		}
		if got.Tokens == 0 || len(got.Inputs) != map[bool]int{true: 4 * shape.Layers}[c.inputs] || len(got.Cache) != map[bool]int{true: shape.Layers}[c.cached] {
			t.Errorf("%s: %d tokens, %d inputs, cache of %d layers", c.recipe, got.Tokens, len(got.Inputs), len(got.Cache))
		}
		for _, i := range got.Inputs {
			if i.SNR == nil || *i.SNR < 20 || *i.SNR > 60 || *i.Cosine < 0.99 {
				t.Errorf("%s: %+v", c.recipe, i)
			}
		}
		for _, l := range got.Cache {
			if (l.UnscaledScores != nil) != c.unscaled || l.Scores.SNR == nil || *l.Scores.SNR < 5 || *l.Values.SNR < 5 {
				t.Errorf("%s: %+v", c.recipe, l)
			}
		}
		if lines := strings.Count(out.String(), "layer"); lines < len(got.Cache) {
			t.Errorf("%s: inspect says\n%s", c.recipe, out.String())
		}
		if diff := cmp.Diff(got, export(t, dir, r).Rounding); diff != "" {
			t.Errorf("%s, twice:\n%s", c.recipe, diff)
		}
	}
}
