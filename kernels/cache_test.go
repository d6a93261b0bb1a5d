package kernels_test

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"quantize/kernels"
	"quantize/kernels/kerneltest"
	"quantize/kernels/ref"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/tensor"
)

func TestCache(t *testing.T) {
	t.Parallel()
	kerneltest.RunCache(t, kernels.NewCache)
}

// cacheInputs are the queries, keys and values of SmolLM2's heads.
func cacheInputs(rows int) (c *model.Config, q, k, v tensor.Matrix) {
	c = &model.Config{Layers: 1, Heads: 9, KVHeads: 3, HeadDim: 64}
	r := rand.New(rand.NewPCG(1, 1))
	random := func(cols int) tensor.Matrix {
		m := tensor.NewMatrix(rows, cols)
		for i := range m.Data {
			m.Data[i] = float32(r.NormFloat64())
		}
		return m
	}
	return c, random(c.Heads * c.HeadDim), random(c.KVHeads * c.HeadDim), random(c.KVHeads * c.HeadDim)
}

// Not parallel: it counts allocations of the process.
func TestCacheTakesNoMemory(t *testing.T) {
	c, q, k, v := cacheInputs(512)
	cache, err := kernels.NewCache(packer.KVScheme{Format: packer.KVInt4, GroupSize: 32, FP8Queries: true}, nil, c)
	if err != nil {
		t.Fatal(err)
	}
	// AllocsPerRun holds GOMAXPROCS at 1; the goroutines are started all the same.
	if n := testing.AllocsPerRun(20, func() { cache(0, q, k, v) }); n >= 1 {
		t.Errorf("%v allocations a call", n)
	}
}

// The result does not depend on the workers. Not parallel: it changes GOMAXPROCS.
func TestCacheIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	var first []float32
	for _, workers := range []int{1, 2, 7} {
		c, q, k, v := cacheInputs(300)
		old := runtime.GOMAXPROCS(workers)
		cache, err := kernels.NewCache(packer.KVScheme{Format: packer.KVInt4, FP8Queries: true}, nil, c)
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		cache(0, q, k, v)
		all := append(append(append([]float32{}, q.Data...), k.Data...), v.Data...)
		for i := range first {
			if first[i] != all[i] {
				t.Fatalf("%d workers: element %d is %v, was %v", workers, i, all[i], first[i])
			}
		}
		first = all
	}
}

// Through a model: the cache is called once a layer, its rounding shows in the
// hidden states, and a scheme that keeps everything changes nothing.
func TestCacheOfAModel(t *testing.T) {
	t.Parallel()
	shape := modeltest.Shape{Family: "qwen2", Hidden: 32, Intermediate: 48, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 32, Vocab: 64}
	c := modeltest.Random(5, shape)
	m, err := model.New(c.Parsed(), c.Source(ref.New()), ref.New())
	if err != nil {
		t.Fatal(err)
	}
	run := func(scheme packer.KVScheme, s *packer.Sidecar) []float32 {
		t.Helper()
		cache, err := kernels.NewCache(scheme, s, m.Config)
		if err != nil {
			t.Fatal(err)
		}
		hidden, err := m.WithRuntime(model.Runtime{Cache: cache}).Stream(t.Context(), [][]int32{modeltest.Tokens(5, 12, 64)}, model.StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return hidden[0].Data
	}
	distance := func(a, b []float32) float64 {
		sum := 0.0
		for i := range a {
			d := float64(a[i]) - float64(b[i])
			sum += d * d
		}
		return sum
	}
	exact := run(packer.KVScheme{}, nil)
	whole := distance(run(packer.KVScheme{Format: packer.KVInt4, Symmetric: true}, nil), exact)
	grouped := distance(run(packer.KVScheme{Format: packer.KVInt4}, nil), exact)
	fp8 := distance(run(packer.KVScheme{Format: packer.KVFP8}, &packer.Sidecar{KScales: []float32{0.02, 0.02}, VScales: []float32{0.02, 0.02}}), exact)
	if !(fp8 > 0 && fp8 < grouped/4 && grouped > 0 && whole > 0) {
		t.Errorf("squared errors: fp8 %g, int4 with zero points %g, without %g", fp8, grouped, whole)
	}
}

func BenchmarkCache(b *testing.B) {
	c, q, k, v := cacheInputs(2048)
	for _, scheme := range []packer.KVScheme{
		{Format: packer.KVFP8},
		{Format: packer.KVInt4, Symmetric: true},
		{Format: packer.KVInt4, GroupSize: 32},
		{Format: packer.KVInt4, Symmetric: true, FP8Queries: true},
	} {
		b.Run(scheme.String(), func(b *testing.B) {
			s := &packer.Sidecar{KScales: []float32{0.01}, VScales: []float32{0.01}}
			cache, err := kernels.NewCache(scheme, s, c)
			if err != nil {
				b.Fatal(err)
			}
			n := 2 * k.Rows * k.Cols
			if scheme.FP8Queries {
				n += q.Rows * q.Cols
			}
			for b.Loop() {
				cache(0, q, k, v)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(n), "ns/element")
		})
	}
}
