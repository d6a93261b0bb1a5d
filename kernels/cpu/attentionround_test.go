package cpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/tensor"
)

// halves is a matrix of n·u/2 for whole numbers n up to 2·largest, which every row and
// every column reaches: of groups of which nothing is taken off the scale is u and half
// the codes are ties. A division rounds them to even; a product with fl(1/u), where that is
// far enough from 1/u, does not.
func halves(r *rand.Rand, rows, cols int, largest float32) tensor.Matrix {
	u := float32(1+r.IntN(1<<12)) * 0x1p-10
	x := tensor.NewMatrix(rows, cols)
	for i := range rows {
		for c := range cols {
			x.Row(i)[c] = float32(r.IntN(4*int(largest)+1)-2*int(largest)) * u / 2
		}
		x.Row(i)[r.IntN(cols)] = largest * u
	}
	for c := range cols {
		x.Row(r.IntN(rows))[c] = largest * u
	}
	return x
}

func gaussian(r *rand.Rand, rows, cols int) tensor.Matrix {
	x := tensor.NewMatrix(rows, cols)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	return x
}

// byDivision reports that a division by the scale would give another code.
func byDivision(mode kernels.AttentionMode, x, scale, code float32) bool {
	if mode == kernels.AttentionFP8 {
		return tensor.RoundE4M3(x/scale) != code
	}
	return nearest(x/scale, largestCode(mode)) != code
}

// sameCode compares bits; INT8 and INT4 have no negative zero.
func sameCode(mode kernels.AttentionMode, got, want float32) bool {
	if mode != kernels.AttentionFP8 {
		want += 0
	}
	return math.Float32bits(got) == math.Float32bits(want)
}

var roundedModes = []kernels.AttentionMode{kernels.AttentionInt8, kernels.AttentionInt4, kernels.AttentionFP8}

// Codes and scales are the twin's to the bit (docs/numerics.md).
func TestAttentionCodesAreTheTwins(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(8, rapid.Uint64().Draw(t, "seed")))
		boolean := func(name string) bool { return rapid.Bool().Draw(t, name) }
		a := kernels.Attention{
			Batch: rapid.IntRange(1, 2).Draw(t, "batch"), KVHeads: rapid.IntRange(1, 2).Draw(t, "KV heads"),
			HeadDim: rapid.IntRange(1, 70).Draw(t, "channels"), Scale: 0.3,
			Queries: rapid.IntRange(1, 150).Draw(t, "queries"), Keys: rapid.IntRange(1, 150).Draw(t, "keys"),
			Format: kernels.AttentionFormat{
				Mode:        rapid.SampledFrom(roundedModes).Draw(t, "mode"),
				Granularity: rapid.SampledFrom([]kernels.Granularity{kernels.PerBlock, kernels.PerWarp, kernels.PerThread}).Draw(t, "granularity"),
				SmoothQ:     boolean("smooth Q"), SmoothK: boolean("smooth K"), SmoothV: boolean("smooth V"),
			},
		}
		if boolean("hadamard") {
			a.Format.Hadamard, a.HeadDim = true, 1<<rapid.IntRange(0, 6).Draw(t, "log2 channels")
		}
		a.Heads = a.KVHeads * rapid.IntRange(1, 2).Draw(t, "heads of a KV head")
		draw := func(tokens, heads int, largest float32) tensor.Matrix {
			if boolean("ties") {
				return halves(r, tokens, heads*a.HeadDim, largest)
			}
			return gaussian(r, tokens, heads*a.HeadDim)
		}
		largest := largestCode(a.Format.Mode)
		q, k := draw(a.Batch*a.Queries, a.Heads, largest), draw(a.Batch*a.Keys, a.KVHeads, largest)
		v := draw(a.Batch*a.Keys, a.KVHeads, tensor.MaxE4M3)
		compareCodes(t, rapid.SampledFrom(Available()).Draw(t, "instruction set"), a, q, k, v)
	})
}

// The same of inputs whose codes a division by the scale would change.
func TestAttentionCodesAreNoDivisions(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 7))
	for _, mode := range roundedModes {
		a := kernels.Attention{
			Batch: 1, Heads: 2, KVHeads: 1, HeadDim: 64, Queries: 50, Keys: 50, Scale: 0.3,
			Format: kernels.AttentionFormat{Mode: mode, Granularity: kernels.PerThread},
		}
		for _, isa := range Available() {
			keys, values := 0, 0
			for range 20 {
				q, k := halves(r, 50, 128, largestCode(mode)), halves(r, 50, 64, largestCode(mode))
				inKeys, inValues := compareCodes(t, isa, a, q, k, halves(r, 50, 64, tensor.MaxE4M3))
				keys, values = keys+inKeys, values+inValues
			}
			if keys < 50 || values < 50 {
				t.Errorf("%v: a division would give other codes of %d keys and %d values, wanted 50 of both", mode, keys, values)
			}
		}
	}
}

// compareCodes rounds the operands of a and compares them with the twin's. It counts the
// codes of keys and values that a division would change.
func compareCodes(t rapid.TB, isa ISA, a kernels.Attention, q, k, v tensor.Matrix) (keys, values int) {
	t.Helper()
	want := ref.RoundAttention(q, k, v, a)
	s := &quantizedAttention{}
	s.fit(NewISA(isa, 1), a)
	s.quantize(1, k, v)
	compareQueries(t, s, want, q)
	return compareKeys(t, s, want, k), compareValues(t, s, want, v)
}

func compareKeys(t rapid.TB, s *quantizedAttention, want *ref.AttentionOperands, k tensor.Matrix) (divided int) {
	t.Helper()
	a, d := s.a, s.a.HeadDim
	for token := range k.Rows {
		for at, x := range k.Row(token) {
			b, g, j, c := token/a.Keys, at/d, token%a.Keys, at%d
			panels, cols := s.heads[b*a.KVHeads+g].keys, s.kern.cols
			got := panels.data[panels.start(0, j/cols)+c*cols+j%cols]
			code, scale := want.K.Row(token)[at], want.KScales.Row(token)[g]
			if !sameCode(a.Format.Mode, got, code*scale) {
				t.Fatalf("key %d, channel %d: found %v, wanted code %v times %v", token, at, got, code, scale)
			}
			if byDivision(a.Format.Mode, x-want.KMeans.Row(b)[at], scale, code) {
				divided++
			}
		}
	}
	return divided
}

func compareValues(t rapid.TB, s *quantizedAttention, want *ref.AttentionOperands, v tensor.Matrix) (divided int) {
	t.Helper()
	a, d := s.a, s.a.HeadDim
	for token := range v.Rows {
		for at, x := range v.Row(token) {
			b, g, j, c := token/a.Keys, at/d, token%a.Keys, at%d
			head, cols := &s.heads[b*a.KVHeads+g], s.kern.cols
			got := head.values.data[head.values.start(j/kernels.KeyTile, c/cols)+j%kernels.KeyTile*cols+c%cols]
			code, scale := want.V.Row(token)[at], want.VScales.Row(b)[at]
			if !sameCode(kernels.AttentionFP8, got, code) || head.valueScales[c] != scale {
				t.Fatalf("value %d, channel %d: found code %v times %v, wanted %v times %v", token, at, got, head.valueScales[c], code, scale)
			}
			if byDivision(kernels.AttentionFP8, x-want.VMeans.Row(b)[at], scale, code) {
				divided++
			}
		}
	}
	return divided
}

// compareQueries compares the rounding of each task.
func compareQueries(t rapid.TB, s *quantizedAttention, want *ref.AttentionOperands, q tensor.Matrix) {
	t.Helper()
	a, d := s.a, s.a.HeadDim
	task := &attentionTask{}
	for n := range a.Batch * a.Heads {
		b, h := n/a.Heads, n%a.Heads
		for first := 0; first < a.Queries; first += kernels.SmoothBlock {
			rows := min(kernels.SmoothBlock, a.Queries-first)
			from := b*a.Queries + first
			head := &s.heads[b*a.KVHeads+h/(a.Heads/a.KVHeads)]
			task.queries(s, head, first, q.RowRange(from, from+rows).ColRange(h*d, (h+1)*d), true)
			for i := range rows {
				scale := want.QScales.Row(from + i)[h]
				for c, code := range want.Q.Row(from + i)[h*d : (h+1)*d] {
					if got := task.rows[i*d+c]; !sameCode(a.Format.Mode, got, code*(scale*a.Scale)) {
						t.Fatalf("query %d of head %d, channel %d: found %v, wanted code %v times %v times %v", from+i, h, c, got, code, scale, a.Scale)
					}
				}
			}
		}
	}
}
