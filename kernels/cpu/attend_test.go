package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/model"
	"quantize/tensor"
)

// reference attends in float64 for the given queries of head h.
func reference(q, k, v tensor.Matrix, a model.Attention, h, i int) []float64 {
	d, kv := a.HeadDim, h/(a.Heads/a.KVHeads)*a.HeadDim
	first := 0
	if a.Window > 0 {
		first = max(0, i-a.Window+1)
	}
	scores, top := make([]float64, i+1-first), math.Inf(-1)
	for j := range scores {
		for t := range d {
			scores[j] += float64(q.Row(i)[h*d+t]) * float64(k.Row(first + j)[kv+t])
		}
		scores[j] *= float64(a.Scale)
		top = max(top, scores[j])
	}
	out, sum := make([]float64, d), 0.0
	for j, s := range scores {
		p := math.Exp(s - top)
		sum += p
		for t := range d {
			out[t] += p * float64(v.Row(first + j)[kv+t])
		}
	}
	for t := range out {
		out[t] /= sum
	}
	return out
}

type heads struct{ q, k, v, dst *guarded }

func attend(t *testing.T, c *Compute, a model.Attention, m int, seed uint64) heads {
	t.Helper()
	r := rand.New(rand.NewPCG(2, seed))
	x := heads{
		newGuarded(m, a.Heads*a.HeadDim, 3).filledWith(r, 1), newGuarded(m, a.KVHeads*a.HeadDim, 1).filledWith(r, 1),
		newGuarded(m, a.KVHeads*a.HeadDim, 2).filledWith(r, 1), newGuarded(m, a.Heads*a.HeadDim, 5),
	}
	c.Attend(x.dst.Matrix, x.q.Matrix, x.k.Matrix, x.v.Matrix, a)
	x.q.unchanged(t, "q")
	x.k.unchanged(t, "k")
	x.v.unchanged(t, "v")
	x.dst.contained(t)
	return x
}

// Several blocks of queries and of keys, windows inside one block, on its edge
// and over several. The error of a head is relative to its largest element.
func TestAttendAcrossBlocks(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		worst := 0.0
		for n, s := range []struct{ tokens, window, dim int }{
			{blockKeys, 0, 64},
			{2*blockKeys + 1, 0, 64},
			{1000, 0, 33},
			{1000, 1, 16},
			{1000, 2, 16},
			{900, blockQueries, 64},
			{900, blockKeys, 64},
			{900, blockKeys + 1, 40},
			{1000, 899, 8},
			{97, 96, 128},
		} {
			a := model.Attention{Heads: 3, KVHeads: 1, HeadDim: s.dim, Scale: float32(1 / math.Sqrt(float64(s.dim))), Window: s.window}
			x := attend(t, NewISA(isa, 2), a, s.tokens, uint64(n))
			for i := 0; i < s.tokens; i += 1 + i%7 {
				h := i % a.Heads
				want := reference(x.q.Matrix, x.k.Matrix, x.v.Matrix, a, h, i)
				size, off := 0.0, 0.0
				for j, w := range want {
					size = max(size, math.Abs(w))
					off = max(off, math.Abs(float64(x.dst.Row(i)[h*s.dim+j])-w))
				}
				if worst = max(worst, off/size); !(off <= 1e-5*size) {
					t.Fatalf("%+v: query %d of head %d is off by %g of %g", s, i, h, off, size)
				}
			}
		}
		t.Logf("largest error %.2g of a head's largest element", worst)
	})
}

func TestAttendBitsDoNotDependOnWorkers(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		a := model.Attention{Heads: 6, KVHeads: 2, HeadDim: 32, Scale: 0.2, Window: 300}
		one := attend(t, NewISA(isa, 1), a, 700, 1)
		for _, workers := range []int{2, 5} {
			more := attend(t, NewISA(isa, workers), a, 700, 1)
			if !slices.Equal(bitsOf(one.dst.all), bitsOf(more.dst.all)) {
				t.Errorf("%d workers and one differ", workers)
			}
		}
	})
}

// A later token must not change an earlier one, not even when its value is not
// a number; and a value that is infinite takes the way around the tiles.
func TestAttendIsCausal(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		a := model.Attention{Heads: 2, KVHeads: 2, HeadDim: 16, Scale: 0.25, Window: 40}
		c := NewISA(isa, 2)
		x := attend(t, c, a, 200, 1)
		clean := append([]float32(nil), x.dst.all...)
		for _, bad := range []float64{math.NaN(), math.Inf(1), 1e30} {
			for name, m := range map[string]*guarded{"q": x.q, "k": x.k, "v": x.v} {
				saved := m.Row(130)[5]
				m.Row(130)[5] = float32(bad)
				c.Attend(x.dst.Matrix, x.q.Matrix, x.k.Matrix, x.v.Matrix, a)
				m.Row(130)[5] = saved
				for i := range 200 {
					seen := i >= 130 && i < 170 && (name != "q" || i == 130)
					for j, got := range x.dst.Row(i) {
						was := clean[margin+i*x.dst.Stride+j]
						if !seen && math.Abs(float64(got-was)) > 1e-5 || !seen && got != got {
							t.Fatalf("%s at token 130 is %g: output %d of token %d is %g, was %g", name, bad, j, i, got, was)
						}
					}
					if seen && math.IsNaN(bad) && x.dst.Row(i)[5] == x.dst.Row(i)[5] {
						t.Fatalf("%s at token 130 is NaN: token %d is %g", name, i, x.dst.Row(i)[5])
					}
				}
			}
		}
	})
}

// The memory that a call leaves to the next one does not show: after keys and
// values of NaN alone, in another shape, the results are the same bits.
func TestAttendMemoryIsReused(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		c := NewISA(isa, 2)
		a := model.Attention{Heads: 2, KVHeads: 1, HeadDim: 19, Scale: 0.2}
		before := attend(t, c, a, 77, 1)
		nan := newGuarded(500, 70, 0) // guards are NaN
		c.Attend(tensor.NewMatrix(500, 70), nan.Matrix, nan.Matrix, nan.Matrix, model.Attention{Heads: 2, KVHeads: 2, HeadDim: 35, Scale: 1})
		after := attend(t, c, a, 77, 1)
		if !slices.Equal(bitsOf(before.dst.all), bitsOf(after.dst.all)) {
			t.Error("results differ after a call of another shape")
		}
	})
}
