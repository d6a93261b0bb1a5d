package kerneltest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"quantize/kernels/ref"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// CacheMaker is the type of kernels.NewCache and of its twin, ref.NewCache.
type CacheMaker func(packer.KVScheme, *packer.Sidecar, *model.Config) (func(layer int, q, k, v tensor.Matrix), error)

// cacheShapes are (Heads, KVHeads, HeadDim).
var cacheShapes = [][3]int{{4, 2, 64}, {3, 1, 32}, {8, 1, 128}, {2, 2, 80}, {1, 1, 6}, {6, 2, 96}}

// cacheSchemes are all that there are.
var cacheSchemes = func() []packer.KVScheme {
	var all []packer.KVScheme
	for _, queries := range []bool{false, true} {
		all = append(all, packer.KVScheme{Format: packer.KVFP8, FP8Queries: queries})
		for _, group := range []int{0, 32, 64} {
			for _, symmetric := range []bool{false, true} {
				all = append(all, packer.KVScheme{Format: packer.KVInt4, GroupSize: group, Symmetric: symmetric, FP8Queries: queries})
			}
		}
	}
	return all
}()

// cacheKinds are the kinds of all kernels and rows of exact ties: a quotient by
// any other way than a division leaves them.
var cacheKinds = append(slices.Clone(kinds),
	kind{"symmetric ties", func(r *rand.Rand, row []float32) {
		s := math.Ldexp(float64(8+r.IntN(8)), r.IntN(14)-9) // an E4M3 value
		ties(r, row, s, []float64{7, -7})
	}},
	kind{"asymmetric ties", func(r *rand.Rand, row []float32) {
		s := math.Ldexp(float64(128+r.IntN(128)), r.IntN(40)-30) // a BF16 value
		ties(r, row, s, []float64{-8, 7})
	}},
)

// ties fills a row with odd multiples of s/2 and, at the start of every group, the
// bounds in units of s that make s its scale.
func ties(r *rand.Rand, row []float32, s float64, bounds []float64) {
	for i := range row {
		row[i] = float32(s * (float64(r.IntN(14)-7) + 0.5))
		if i%16 < len(bounds) {
			row[i] = float32(s * bounds[i%16])
		}
	}
}

// RunCache runs a NewCache beside ref.NewCache: equal to the bit, a NaN in place
// of a NaN.
func RunCache(t *testing.T, newCache CacheMaker) {
	t.Helper()
	number := 0
	for _, shape := range cacheShapes {
		c := &model.Config{Layers: 2, Heads: shape[0], KVHeads: shape[1], HeadDim: shape[2]}
		for _, scheme := range cacheSchemes {
			if scheme.Validate(c.HeadDim) != nil {
				continue
			}
			for _, scaled := range []bool{false, true} {
				s := cacheSidecar(scheme, c, scaled)
				got, err := newCache(scheme, s, c)
				if err != nil {
					t.Fatalf("%v, %v: %v", shape, scheme, err)
				}
				want, err := ref.NewCache(scheme, s, c)
				if err != nil {
					t.Fatalf("%v, %v: the twin: %v", shape, scheme, err)
				}
				for _, k := range cacheKinds {
					number++
					r := seeded(number)
					rows, layer := []int{0, 1, 5, 37}[r.IntN(4)], r.IntN(2)
					if k.name == "normal" {
						rows = 150 // several workers
					}
					name := fmt.Sprintf("%d rows, heads %v, %v, scaled %t, %s", rows, shape, scheme, scaled, k.name)
					x := newCacheCase(number, rows, c, k)
					y := newCacheCase(number, rows, c, k)
					got(layer, x.q.Matrix, x.k.Matrix, x.v.Matrix)
					want(layer, y.q.Matrix, y.k.Matrix, y.v.Matrix)
					if !scheme.FP8Queries {
						x.q.unchanged(t, name)
					}
					equal(t, name+", queries", x.q, y.q)
					equal(t, name+", keys", x.k, y.k)
					equal(t, name+", values", x.v, y.v)
				}
			}
		}
	}
	runCacheConcurrent(t, newCache)
	runCacheRefused(t, newCache)
}

// cacheSidecar has key scales in layer 1 only, far from a power of two and from one.
func cacheSidecar(scheme packer.KVScheme, c *model.Config, scaled bool) *packer.Sidecar {
	r := seeded(17)
	s := &packer.Sidecar{KV: scheme}
	if scaled {
		s.KeyScales = make([][]float32, c.Layers)
		s.KeyScales[1] = make([]float32, c.KVHeads*c.HeadDim)
		for i := range s.KeyScales[1] {
			s.KeyScales[1][i] = float32(math.Exp(2 * r.NormFloat64()))
		}
	}
	if scheme.Format == packer.KVFP8 {
		for range c.Layers {
			s.KScales = append(s.KScales, float32(0.01*math.Exp(r.NormFloat64())))
			s.VScales = append(s.VScales, float32(0.01*math.Exp(r.NormFloat64())))
		}
	}
	return s
}

type cacheCase struct{ q, k, v *operand }

func newCacheCase(number, rows int, c *model.Config, fill kind) cacheCase {
	r := rand.New(rand.NewPCG(2, uint64(number)))
	return cacheCase{
		q: filled(r, rows, c.Heads*c.HeadDim, number%3, fill),
		k: filled(r, rows, c.KVHeads*c.HeadDim, number%2, fill),
		v: filled(r, rows, c.KVHeads*c.HeadDim, number%5, fill),
	}
}

// equal compares two operands and the guards of the first.
func equal(t *testing.T, name string, got, want *operand) {
	t.Helper()
	got.contained(t, name)
	for i := range want.Rows {
		for j, w := range want.Row(i) {
			g := got.Row(i)[j]
			if math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
				t.Fatalf("%s: element (%d, %d) is %v, want %v", name, i, j, g, w)
			}
		}
	}
}

// runCacheConcurrent calls one function for several windows at once.
func runCacheConcurrent(t *testing.T, newCache CacheMaker) {
	t.Helper()
	c := &model.Config{Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 64}
	scheme := packer.KVScheme{Format: packer.KVInt4, GroupSize: 32, FP8Queries: true}
	s := cacheSidecar(scheme, c, true)
	got, err := newCache(scheme, s, c)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ref.NewCache(scheme, s, c)
	if err != nil {
		t.Fatal(err)
	}
	const calls = 6
	var x [calls]cacheCase
	var group sync.WaitGroup
	for i := range x {
		x[i] = newCacheCase(i, 100+i, c, kinds[0])
		group.Go(func() { got(i%2, x[i].q.Matrix, x[i].k.Matrix, x[i].v.Matrix) })
	}
	group.Wait()
	for i := range x {
		y := newCacheCase(i, 100+i, c, kinds[0])
		want(i%2, y.q.Matrix, y.k.Matrix, y.v.Matrix)
		name := fmt.Sprintf("concurrent call %d", i)
		equal(t, name, x[i].q, y.q)
		equal(t, name, x[i].k, y.k)
		equal(t, name, x[i].v, y.v)
	}
}

func runCacheRefused(t *testing.T, newCache CacheMaker) {
	t.Helper()
	c := &model.Config{Layers: 2, Heads: 2, KVHeads: 2, HeadDim: 64}
	int4, fp8 := packer.KVScheme{Format: packer.KVInt4}, packer.KVScheme{Format: packer.KVFP8}
	ones, nan := []float32{1, 1}, float32(math.NaN())
	for name, b := range map[string]struct {
		scheme packer.KVScheme
		s      *packer.Sidecar
		want   error
	}{
		"group that does not divide": {packer.KVScheme{Format: packer.KVInt4, GroupSize: 48}, nil, packer.ErrOption},
		"fp8 without scales":         {fp8, nil, packer.ErrInvalid},
		"fp8 of fewer layers":        {fp8, &packer.Sidecar{KScales: ones[:1], VScales: ones[:1]}, packer.ErrInvalid},
		"values without scales":      {fp8, &packer.Sidecar{KScales: ones}, packer.ErrInvalid},
		"scale of zero":              {fp8, &packer.Sidecar{KScales: ones, VScales: []float32{1, 0}}, packer.ErrInvalid},
		"key scales of other layers": {int4, &packer.Sidecar{KeyScales: make([][]float32, 3)}, packer.ErrInvalid},
		"key scales of other heads":  {int4, &packer.Sidecar{KeyScales: [][]float32{nil, make([]float32, 64)}}, packer.ErrInvalid},
		"key scale not a number":     {int4, &packer.Sidecar{KeyScales: [][]float32{nil, append(make([]float32, 127), nan)}}, packer.ErrInvalid},
	} {
		if _, err := newCache(b.scheme, b.s, c); !errors.Is(err, b.want) {
			t.Errorf("%s: error %v, want %v", name, err, b.want)
		}
	}
	if f, err := newCache(packer.KVScheme{}, nil, c); f != nil || err != nil {
		t.Errorf("a cache that keeps everything: function %t, error %v", f != nil, err)
	}
}
