package main

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/recipe"
	"quantize/smoothing"
	"quantize/tensor"
)

// TestRecipesPreserveTheFunction runs every transform and every composition in
// the built-in recipes, and some that stand in none, over every architecture
// table: grouped queries of 1, 3, 4 and 8, biases, QK-norm, both kinds of
// embedding (architecture.md, law 1).
func TestRecipesPreserveTheFunction(t *testing.T) {
	t.Parallel()
	recipes := map[string]*recipe.Recipe{}
	for _, name := range recipe.Names() {
		r, err := recipe.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		recipes[name] = r
		recipes[name+" int4 cache"] = r.WithKV(recipe.KV{Format: recipe.KVInt4, GroupSize: 32, Smooth: true})
	}
	for name, text := range map[string]string{
		"everything": `{name: x, scheme: W4A8_FP8, rotation: {residual: pca-hadamard, values: pca, down: hadamard, seed: 7},
			rope: {method: fireq, alpha: 3, exponent: 0.5, statistic: rms, top_k: 2, beta: 2}, smoothing: {method: awq}, kv: {format: int4, smooth: true}}`,
		"by deviation":     `{name: x, scheme: W4A16, rope: {method: fireq, alpha: 8, exponent: 1, statistic: deviation}, kv: {format: int4, smooth: true}}`,
		"hadamard":         `{name: x, scheme: W4A16, rotation: {residual: hadamard, values: hadamard, down: hadamard}}`,
		"smooth attention": `{name: x, scheme: W4A16, rotation: {values: pca-hadamard, seed: 2}, rope: {method: smooth-attention, alpha: 0.5}, smoothing: {method: smoothquant, alpha: 0.5, pairs: [qkv, o, gate_up, down]}}`,
		"fireq everywhere": `{name: x, scheme: W4A8_FP8, rotation: {residual: pca}, smoothing: {method: fireq, pairs: [qkv, o, gate_up, down], v_mul: 0.9}}`,
	} {
		r, err := recipe.Decode(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		recipes[name] = r
	}
	for _, shape := range modeltest.Shapes() {
		shape.Hidden, shape.Intermediate, shape.HeadDim = 64, 96, 32 // what groups of 32 need
		if width, ok := shape.Config["moe_intermediate_size"].(int); ok {
			shape.Config["moe_intermediate_size"] = 2 * width / 32 * 32 // 32, unlike the dense layer's, and 96
		}
		c := modeltest.Random(11, shape)
		dir := t.TempDir()
		if err := c.Write(dir); err != nil {
			t.Fatal(err)
		}
		for name, r := range recipes {
			t.Run(shape.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				preserves(t, c, dir, r)
			})
		}
	}
}

func preserves(t *testing.T, c *modeltest.Checkpoint, dir string, r *recipe.Recipe) {
	l, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	cfg := l.config
	windows := [][]int32{modeltest.Tokens(1, 24, cfg.Vocab), modeltest.Tokens(2, 24, cfg.Vocab)}
	e := &env{out: io.Discard, err: io.Discard}
	tr, err := e.transform(t.Context(), l, r, windows)
	if len(cfg.DownWidths()) > 1 && r.Rotation.Down == recipe.Hadamard {
		if !errors.Is(err, smoothing.ErrRotation) {
			t.Errorf("one rotation of inputs of down of widths %v: error %v", cfg.DownWidths(), err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}

	exact := c.Widen()
	unround(exact)
	tokens := modeltest.Tokens(3, 12, cfg.Vocab)
	want := modeltest.Logits(cfg, exact, tokens)
	moved, changed := exact.Apply(cfg, tr.list...)
	online := onlineOf(cfg, tr)
	got := modeltest.LogitsOnline(changed, moved, tokens, online)
	low, high := math.Inf(1), math.Inf(-1)
	for _, row := range want {
		low, high = min(low, slices.Min(row)), max(high, slices.Max(row))
	}
	worst := 0.0
	for i := range want {
		for j, v := range want[i] {
			worst = max(worst, math.Abs(got[i][j]-v))
		}
	}
	if !(worst <= 1e-9*(high-low)) {
		t.Errorf("float64 logits differ by %g of their range", worst/(high-low))
	}

	// Stored in BF16, both are off by the rounding of their weights. It is relative, so a
	// transform that keeps the weights' sizes keeps it about as large; one that makes
	// outliers does not. Three times leaves room for the chance of a small model.
	stored := rms(modeltest.LogitsOnline(changed, bf16(moved), tokens, online), want)
	if plain := rms(modeltest.Logits(cfg, bf16(exact), tokens), want); len(tr.list) > 0 && !(stored <= 3*plain) {
		t.Errorf("in BF16 the logits are off by %g, those of the original by %g", stored, plain)
	}
}

// onlineOf is what is left to do at run time, in float64.
func onlineOf(cfg *model.Config, tr *transforms) modeltest.Online {
	var o modeltest.Online
	if tr.sidecar != nil && tr.sidecar.KeyScales != nil {
		group := cfg.Heads / cfg.KVHeads
		o.QK = func(layer int, q, k [][]float64) {
			for c, s := range tr.sidecar.KeyScales[layer] {
				head, i := c/cfg.HeadDim, c%cfg.HeadDim
				for m := range k {
					k[m][c] *= float64(s)
					for g := range group {
						q[m][(head*group+g)*cfg.HeadDim+i] /= float64(s)
					}
				}
			}
		}
	}
	if tr.sidecar != nil && tr.sidecar.Down == packer.DownHadamard {
		h, err := hadamardOf(cfg.Intermediate)
		if err != nil {
			panic(err)
		}
		o.DownIn = func(x [][]float64) {
			for _, row := range x {
				h.Apply(row)
			}
		}
	}
	return o
}

// unround moves weights off the BF16 grid, on which a checkpoint's lie.
func unround(w modeltest.Float64) {
	names := make([]string, 0, len(w))
	for name := range w {
		names = append(names, name)
	}
	slices.Sort(names)
	rng := rand.New(rand.NewPCG(9, 9))
	for _, name := range names {
		for i := range w[name] {
			w[name][i] *= 1 + (rng.Float64()-0.5)/64
		}
	}
}

func bf16(w modeltest.Float64) modeltest.Float64 {
	out := modeltest.Float64{}
	for name, data := range w {
		rounded := make([]float64, len(data))
		for i, v := range data {
			rounded[i] = float64(tensor.BF16Value(tensor.BF16Bits(float32(v))))
		}
		out[name] = rounded
	}
	return out
}

func rms(a, b [][]float64) float64 {
	sum, n := 0.0, 0
	for i := range a {
		for j, v := range a[i] {
			sum += (v - b[i][j]) * (v - b[i][j])
			n++
		}
	}
	return math.Sqrt(sum / float64(n))
}
