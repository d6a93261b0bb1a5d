package kerneltest

import (
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

// cacheKinds are the kinds of all kernels, rows of exact ties, which a quotient by
// any other way than a division leaves, and rows whose range is as small as the
// FP16 step at their distance from zero, so that codes are clamped at both ends.
var cacheKinds = append(slices.Clone(kinds),
	kind{"symmetric ties", func(r *rand.Rand, row []float32) {
		s := math.Ldexp(float64(8+r.IntN(8)), r.IntN(14)-9) // an E4M3 value
		ties(r, row, s, []float64{7, -7})
	}},
	kind{"asymmetric ties", func(r *rand.Rand, row []float32) {
		s := math.Ldexp(float64(1024+r.IntN(1024)), r.IntN(26)-24) // a normal FP16 value, and 8s too
		ties(r, row, s, []float64{-8, 7})
	}},
	kind{"narrow", func(r *rand.Rand, row []float32) {
		at, width := math.Ldexp(r.NormFloat64(), r.IntN(16)), math.Ldexp(1, -8-r.IntN(5))
		for i := range row {
			row[i] = float32(at * (1 + width*r.Float64()))
		}
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
			for _, contents := range cacheContents(scheme) {
				s := cacheSidecar(scheme, c, contents)
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
					name := fmt.Sprintf("%d rows, heads %v, %v, %s, %s", rows, shape, scheme, contents, k.name)
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

// cacheContents names what a sidecar of the scheme may hold.
func cacheContents(scheme packer.KVScheme) []string {
	if scheme.Format == packer.KVFP8 {
		return []string{"plain", "smooth values"}
	}
	return []string{"plain", "scaled", "smooth"}
}

// cacheSidecar has numbers far from a power of two and from one. Scaled: key scales
// in layer 1 only. Smooth: those, key means in both layers, and value means, which
// smooth values has alone, in layer 0 only.
func cacheSidecar(scheme packer.KVScheme, c *model.Config, contents string) *packer.Sidecar {
	r := seeded(17)
	channels := func(f func() float64) []float32 {
		x := make([]float32, c.KVHeads*c.HeadDim)
		for i := range x {
			x[i] = float32(f())
		}
		return x
	}
	s := &packer.Sidecar{KV: scheme}
	if contents == "scaled" || contents == "smooth" {
		s.KeyScales = make([][]float32, c.Layers)
		s.KeyScales[1] = channels(func() float64 { return math.Exp(2 * r.NormFloat64()) })
	}
	if contents == "smooth" {
		s.KeyMeans = [][]float32{channels(r.NormFloat64), channels(r.NormFloat64)}
	}
	if contents == "smooth" || contents == "smooth values" {
		s.ValueMeans = [][]float32{channels(r.NormFloat64), nil}
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
	s := cacheSidecar(scheme, c, "smooth")
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
