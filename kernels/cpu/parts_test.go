package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/tensor"
)

// eachParts runs test for the twin of the products of BF16 parts and for each
// instruction set that has them.
func eachParts(t *testing.T, test func(t *testing.T, c *Compute)) {
	t.Run("twin", func(t *testing.T) { test(t, &Compute{kern: &twinKernel, workers: 2}) })
	for _, isa := range Available() {
		if kernelFor(isa).parts != nil {
			t.Run(isa.String(), func(t *testing.T) { test(t, NewISA(isa, 2)) })
		}
	}
}

// Three parts are the number, whatever its size beside 2^exponent, down to what
// is flushed to zero; less than three are enough exactly where the flags say so.
func TestCutIsExact(t *testing.T) {
	eachParts(t, func(t *testing.T, c *Compute) {
		kern := c.kern.parts
		r := rand.New(rand.NewPCG(2, 1))
		for round := range 200 {
			n := 32 * (1 + r.IntN(4))
			x, e := aligned(n), r.IntN(100)-50
			wantSecond, wantThird := false, false
			for i := range x {
				bits := [4]int{24, 16, 8, 3}[min(round%5, 3)]
				x[i] = float32(math.Ldexp(float64(r.IntN(1<<bits)), 1-bits+e-r.IntN(60)))
				if r.IntN(2) == 0 {
					x[i] = -x[i]
				}
			}
			step, part := 3*partStep, partStep // in words: parts of a step side by side
			dst := make([]uint16, n/partStep*step)
			second, third := kern.cut(&dst[0], partBytes*step, partBytes*part, &x[0], n, float32(e))
			for i, v := range x {
				sum := 0.0
				for p := range maxParts {
					at := i/partStep*step + p*part + i%16*2 + i%partStep/16
					piece := float64(tensor.BF16Value(dst[at]))
					sum += piece
					wantSecond, wantThird = wantSecond || p == 1 && piece != 0, wantThird || p == 2 && piece != 0
				}
				if got := math.Ldexp(sum, e); got != float64(v) {
					t.Fatalf("element %d: parts sum to %g, want %g", i, got, v)
				}
			}
			if second != 0 != wantSecond || third != 0 != wantThird {
				t.Fatalf("flags %#x %#x, want second %t, third %t", second, third, wantSecond, wantThird)
			}
		}
	})
}

// A row's sums do not depend on how many parts the other rows of its panel need,
// nor on how many the other rows of x need.
func TestPartsOfNeighboursDoNotMatter(t *testing.T) {
	eachParts(t, func(t *testing.T, c *Compute) {
		r := rand.New(rand.NewPCG(2, 2))
		const m, n, k = 40, 32, 1100
		x, w := newGuarded(m, k, 3).filledWith(r, 1), newGuarded(n, k, 0).filledWith(r, 1)
		coarse := func(row []float32) {
			for i, v := range row {
				row[i] = tensor.BF16Value(tensor.BF16Bits(v))
			}
		}
		coarse(x.Row(4))
		coarse(w.Row(9))
		mixed, plain := tensor.NewMatrix(m, n), tensor.NewMatrix(1, 1)
		c.MatMulT(mixed, x.Matrix, w.Matrix)
		c.MatMulT(plain, x.RowRange(4, 5), w.RowRange(9, 10))
		if got, want := mixed.Row(4)[9], plain.Data[0]; math.Float32bits(got) != math.Float32bits(want) {
			t.Errorf("among others %v, alone %v", got, want)
		}
	})
}

// Powers of two that are taken out of rows reach over all of FP32: what FP32
// cannot hold is lost in the result alone.
func TestPartsOfExtremeRows(t *testing.T) {
	eachParts(t, func(t *testing.T, c *Compute) {
		r := rand.New(rand.NewPCG(2, 3))
		const k = 70
		for _, s := range [][2]int{{0, 0}, {-140, 120}, {120, -140}, {-149, 100}, {100, -100}, {127, -120}, {-100, -60}} {
			x, w := tensor.NewMatrix(1, k), tensor.NewMatrix(1, k)
			want, mass := 0.0, 0.0
			for i := range k {
				x.Data[i] = float32(math.Ldexp(r.Float64()-0.5, s[0]))
				w.Data[i] = float32(math.Ldexp(r.Float64()-0.5, s[1]))
				term := float64(x.Data[i]) * float64(w.Data[i])
				want, mass = want+term, mass+math.Abs(term)
			}
			dst := tensor.NewMatrix(1, 1)
			c.MatMulT(dst, x, w)
			if d := math.Abs(float64(dst.Data[0]) - want); !(d <= (k+2)*u*mass+0x1p-149) {
				t.Errorf("2^%d x 2^%d: %g, want %g", s[0], s[1], dst.Data[0], want)
			}
		}
	})
}

// An infinity of x is one in the result, unless a weight of 0 or the opposite
// infinity meets it.
func TestPartsOfInfinities(t *testing.T) {
	eachParts(t, func(t *testing.T, c *Compute) {
		inf, nan := float32(math.Inf(1)), float32(math.NaN())
		const k = 1200 // two blocks of k
		for _, s := range []struct {
			name  string
			x     map[int]float32
			w     map[int]float32
			want  float32
			other float32 // a second column, of weights 1
		}{
			{"alone", map[int]float32{700: inf}, map[int]float32{700: -3}, -inf, inf},
			{"two that agree", map[int]float32{1: inf, 1199: -inf}, map[int]float32{1: 2, 1199: -1}, inf, nan},
			{"two that do not", map[int]float32{1: inf, 1199: inf}, map[int]float32{1: 2, 1199: -1}, nan, inf},
			{"a weight of 0", map[int]float32{17: inf}, map[int]float32{17: 0}, nan, inf},
			{"beside NaN", map[int]float32{17: inf, 900: nan}, map[int]float32{17: 1}, nan, nan},
		} {
			x, w := tensor.NewMatrix(3, k), tensor.NewMatrix(2, k)
			for i := range k {
				w.Row(0)[i], w.Row(1)[i] = 1.0/3, 1
			}
			for i, v := range s.x {
				x.Row(1)[i] = v
			}
			for i, v := range s.w {
				w.Row(0)[i] = v
			}
			dst := tensor.NewMatrix(3, 2)
			c.Linear(w, []float32{5, 6}).Forward(dst, x)
			same := func(a, b float32) bool { return a == b || a != a && b != b }
			if !same(dst.Row(1)[0], s.want) || !same(dst.Row(1)[1], s.other) {
				t.Errorf("%s: %v, want %v and %v", s.name, dst.Row(1), s.want, s.other)
			}
			if !slices.Equal(dst.Row(0), []float32{5, 6}) || !slices.Equal(dst.Row(2), []float32{5, 6}) {
				t.Errorf("%s: rows beside it are %v and %v, want the bias", s.name, dst.Row(0), dst.Row(2))
			}
		}
	})
}

// A BF16 weight takes 2 bytes an element, any other at most 6.
func TestPartsTakeWhatTheyNeed(t *testing.T) {
	eachParts(t, func(t *testing.T, c *Compute) {
		for bits, want := range map[int]int{8: 1, 12: 2, 24: 3} {
			r := rand.New(rand.NewPCG(2, uint64(bits)))
			w := tensor.NewMatrix(64, 96)
			for i := range w.Data {
				w.Data[i] = float32(r.IntN(1<<bits) | 1)
			}
			l := c.Linear(w, nil).(*partedLinear)
			for p := range l.w.panels {
				if got := l.w.parts(p); got != want {
					t.Errorf("%d bits: %d parts, want %d", bits, got, want)
				}
			}
		}
	})
}

// The twin alone has what other tests demand of every instruction set.
func TestTwinOfParts(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 5))
	for _, s := range [][3]int{{1, 1, 1}, {33, 70, 45}, {200, 40, 33}, {5, 65, 2100}, {40, 3, 0}} {
		product(t, &Compute{kern: &twinKernel, workers: 3}, r, s[0], s[1], s[2], 3, true)
	}
}
