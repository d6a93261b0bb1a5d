package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/kernels"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/tensor"
)

// roundingConfig is a model of two layers, 4 query heads on 2 key heads of 32 channels,
// the second layer with a sliding window.
func roundingConfig(t *testing.T) *model.Config {
	t.Helper()
	for _, s := range modeltest.Shapes() {
		if s.Family == "mistral" {
			s.Layers, s.Heads, s.KVHeads, s.HeadDim = 2, 4, 2, 32
			cfg, err := model.ParseConfig(modeltest.Random(1, s).Config)
			if err != nil {
				t.Fatal(err)
			}
			return cfg
		}
	}
	t.Fatal("no mistral among the shapes")
	return nil
}

func normal(r *rand.Rand, rows, cols int) tensor.Matrix {
	x := tensor.NewMatrix(rows, cols)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	return x
}

func scaled(x tensor.Matrix, f func(c int) float32) tensor.Matrix {
	y := tensor.NewMatrix(x.Rows, x.Cols)
	for i := range x.Rows {
		for c, v := range x.Row(i) {
			y.Row(i)[c] = v * f(c)
		}
	}
	return y
}

// Without its scales, which are powers of two here, a cache has the bits of one that
// never had any; and what the meter is shown stays as it is.
func TestRoundingMeterTakesScalesOut(t *testing.T) {
	t.Parallel()
	cfg := roundingConfig(t)
	r := rand.New(rand.NewPCG(1, 2))
	channels := cfg.KVHeads * cfg.HeadDim
	q, k, v := normal(r, 40, cfg.Heads*cfg.HeadDim), normal(r, 40, channels), normal(r, 40, channels)
	power := func() []float64 {
		f := make([]float64, channels)
		for c := range f {
			f[c] = math.Ldexp(1, r.IntN(7)-3)
		}
		return f
	}
	pre, post := power(), power()
	mean, scaledMean, kappa := make([]float32, channels), make([]float32, channels), make([]float32, channels)
	for c := range mean {
		mean[c] = float32(r.NormFloat64())
		kappa[c] = float32(post[c])
		scaledMean[c] = mean[c] * float32(pre[c]) * kappa[c]
	}
	scheme := packer.KVScheme{Format: packer.KVInt4, GroupSize: 32, FP8Queries: true}
	measure := func(s *packer.Sidecar, factors [][]float64, q, k tensor.Matrix) *packer.Rounding {
		m, err := kernels.NewRoundingMeter(cfg, kernels.RoundingOptions{Scheme: scheme, Sidecar: s, KeyFactors: factors})
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Concat(q.Data, k.Data, v.Data)
		for layer := range cfg.Layers {
			m.Cache(layer, q, k, v)
		}
		if !slices.Equal(before, slices.Concat(q.Data, k.Data, v.Data)) {
			t.Error("the meter changed what it was shown")
		}
		return m.Measured()
	}
	means := func(m []float32) [][]float32 { return [][]float32{m, m} }
	never := measure(&packer.Sidecar{KeyMeans: means(mean)}, nil, q, k)
	with := measure(&packer.Sidecar{KeyMeans: means(scaledMean), KeyScales: means(kappa)}, [][]float64{pre, pre},
		scaled(q, func(c int) float32 {
			return float32(1 / pre[c/cfg.HeadDim/(cfg.Heads/cfg.KVHeads)*cfg.HeadDim+c%cfg.HeadDim])
		}),
		scaled(k, func(c int) float32 { return float32(pre[c]) }))
	for layer := range cfg.Layers {
		if never.Cache[layer].UnscaledScores != nil {
			t.Errorf("layer %d: scores of unscaled keys, where no key has scales", layer)
		}
		if diff := cmp.Diff(&never.Cache[layer].Scores, with.Cache[layer].UnscaledScores); diff != "" {
			t.Errorf("layer %d:\n%s", layer, diff)
		}
		if *with.Cache[layer].Scores.SNR == *with.Cache[layer].UnscaledScores.SNR {
			t.Errorf("layer %d: random scales cost nothing", layer)
		}
	}
}

// The figures are those of the definitions, formed from whole matrices.
func TestRoundingMeterEqualsTheDefinition(t *testing.T) {
	t.Parallel()
	cfg := roundingConfig(t)
	r := rand.New(rand.NewPCG(3, 4))
	const rows = 16 // of which the meter forms the scores of all
	channels := cfg.KVHeads * cfg.HeadDim
	q, k, v := normal(r, rows, cfg.Heads*cfg.HeadDim), normal(r, rows, channels), normal(r, rows, channels)
	halve := func(dst, x tensor.Matrix) {
		for i := range x.Rows {
			for c, v := range x.Row(i) {
				dst.Row(i)[c] = float32(math.Round(float64(v) * 2))
			}
		}
	}
	scheme := packer.KVScheme{Format: packer.KVInt4}
	m, err := kernels.NewRoundingMeter(cfg, kernels.RoundingOptions{Inputs: halve, Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	m.Observe(model.Site{Layer: 1, Point: model.KPost}, k) // no linear reads it
	m.Observe(model.Site{Layer: 0, Point: model.AttnIn}, q)
	m.Observe(model.Site{Layer: 1, Point: model.DownIn}, q)
	m.Cache(1, q, k, v)
	got := m.Measured()

	cache, err := kernels.NewCache(scheme, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	kept, values := scaled(k, one), scaled(v, one)
	cache(1, q, kept, values)
	var want, have []float64
	for h := range cfg.Heads {
		for i := range rows {
			from := max(0, i+1-cfg.Window(1))
			score := func(keys tensor.Matrix) []float64 {
				var s []float64
				var mean float64
				for j := from; j <= i; j++ {
					var sum float64
					for c := range cfg.HeadDim {
						sum += float64(q.Row(i)[h*cfg.HeadDim+c]) * float64(keys.Row(j)[h/2*cfg.HeadDim+c])
					}
					s, mean = append(s, sum), mean+sum
				}
				for j := range s {
					s[j] -= mean / float64(len(s))
				}
				return s
			}
			want, have = append(want, score(k)...), append(have, score(kept)...)
		}
	}
	rounded := tensor.NewMatrix(rows, q.Cols)
	halve(rounded, q)
	near(t, "scores", got.Cache[1].Scores, want, have)
	near(t, "values", got.Cache[1].Values, wide(v.Data), wide(values.Data))
	if got.Tokens != rows || len(got.Inputs) != 4*cfg.Layers || len(got.Cache) != cfg.Layers {
		t.Fatalf("%d tokens, %d inputs, %d layers of cache", got.Tokens, len(got.Inputs), len(got.Cache))
	}
	near(t, "attn_in", got.Inputs[0].Fidelity, wide(q.Data), wide(rounded.Data))
	near(t, "down_in", got.Inputs[7].Fidelity, wide(q.Data), wide(rounded.Data))
	if f := got.Inputs[1].Fidelity; f.SNR != nil || f.Cosine != nil {
		t.Errorf("o_in, which nothing was seen of: %+v", f)
	}
}

func one(int) float32 { return 1 }

func near(t *testing.T, what string, got packer.Fidelity, want, have []float64) {
	t.Helper()
	var signal, rounded, noise, both float64
	for i, w := range want {
		signal, rounded, noise, both = signal+w*w, rounded+have[i]*have[i], noise+(w-have[i])*(w-have[i]), both+w*have[i]
	}
	snr, cosine := 10*math.Log10(signal/noise), both/math.Sqrt(signal*rounded)
	if got.SNR == nil || got.Cosine == nil || !(math.Abs(*got.SNR-snr) <= 6e-4*math.Abs(snr)) || !(math.Abs(*got.Cosine-cosine) <= 6e-5) {
		t.Errorf("%s: %v, want SNR %v, cosine %v", what, got, snr, cosine)
	}
}

// A runtime that rounds nothing has no figures, and an FP8 cache none of unscaled keys.
func TestRoundingMeterOfOtherFormats(t *testing.T) {
	t.Parallel()
	cfg := roundingConfig(t)
	m, err := kernels.NewRoundingMeter(cfg, kernels.RoundingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x := normal(rand.New(rand.NewPCG(5, 6)), 4, cfg.Heads*cfg.HeadDim)
	kv := normal(rand.New(rand.NewPCG(7, 8)), 4, cfg.KVHeads*cfg.HeadDim)
	m.Observe(model.Site{Point: model.AttnIn}, x)
	m.Cache(0, x, kv, kv)
	if diff := cmp.Diff(m.Measured(), &packer.Rounding{Tokens: 4}); diff != "" {
		t.Error(diff)
	}
	ones := []float32{1, 1}
	fp8, err := kernels.NewRoundingMeter(cfg, kernels.RoundingOptions{
		Scheme: packer.KVScheme{Format: packer.KVFP8}, Sidecar: &packer.Sidecar{KScales: ones, VScales: ones},
		KeyFactors: [][]float64{make([]float64, kv.Cols), nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	fp8.Cache(0, x, kv, kv)
	if c := fp8.Measured().Cache[0]; c.UnscaledScores != nil || !(*c.Scores.SNR > 25) || !(*c.Values.Cosine > 0.999) {
		t.Errorf("FP8: %+v", c)
	}
	if _, err := kernels.NewRoundingMeter(cfg, kernels.RoundingOptions{Scheme: packer.KVScheme{Format: packer.KVFP8}}); err == nil {
		t.Error("an FP8 cache without scales was accepted")
	}
}
