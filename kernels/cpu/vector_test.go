package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

// ulps is the distance of got from want in units of the last place of want.
func ulps(got float32, want float64) float64 {
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

// maxExpULP bounds the exponential; the largest found is 0.97 (with fused
// multiply-adds) and 0.97 (plain Go, on amd64).
const maxExpULP = 1.0

// One in 509 of all floats in the range, by their bits: every binade and, in
// each, every residue modulo ln 2.
func TestExp(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		kern := kernelFor(isa)
		const batch = 1024
		row, args := make([]float32, batch+maxLanes), make([]float32, 0, batch)
		worst, at := 0.0, float32(0)
		flush := func() {
			copy(row, args)
			if top, _ := kern.softmax(&row[0], len(args), 0); top != 0 {
				t.Fatalf("top is %g", top)
			}
			for i, x := range args {
				if e := ulps(row[i], math.Exp(float64(x))); !(e <= worst) {
					worst, at = e, x
				}
			}
			args = args[:0]
		}
		for bits, end := math.Float32bits(-0x1p-40), math.Float32bits(expLow); bits <= end; bits += 509 {
			if args = append(args, math.Float32frombits(bits)); len(args) == batch {
				flush()
			}
		}
		flush()
		t.Logf("largest error %.3f ULP at %g", worst, at)
		if !(worst <= maxExpULP) {
			t.Errorf("largest error %.3f ULP at %g", worst, at)
		}
	})
}

// The plain exponential also over the positive arguments that SiLU needs.
func TestExpOfPositive(t *testing.T) {
	worst := 0.0
	for bits, end := math.Float32bits(0x1p-40), math.Float32bits(expHigh); bits <= end; bits += 509 {
		x := math.Float32frombits(bits)
		worst = max(worst, ulps(exp(x), math.Exp(float64(x))))
	}
	t.Logf("largest error %.3f ULP", worst)
	if !(worst <= maxExpULP) {
		t.Errorf("largest error %.3f ULP", worst)
	}
}

func TestSoftmaxOfEveryLength(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		kern := kernelFor(isa)
		r := rand.New(rand.NewPCG(1, 1))
		for n := 1; n <= 70; n++ {
			filled := (n + kern.lanes - 1) / kern.lanes * kern.lanes
			x := newGuarded(1, filled, 0).filledWith(r, 5)
			row := x.Row(0)
			for j := n; j < filled; j++ {
				row[j] = float32(math.NaN()) // what lies behind must not count
			}
			given := append([]float32(nil), row...)
			before := float32(r.NormFloat64() * 10)
			top, sum := kern.softmax(&row[0], n, before)
			largest, total := before, 0.0
			for _, v := range given[:n] {
				largest = max(largest, v)
			}
			for j, v := range given[:n] {
				want := math.Exp(float64(v - largest))
				total += want
				if ulps(row[j], want) > maxExpULP {
					t.Errorf("n %d: exp of element %d is %g, want %g", n, j, row[j], want)
				}
			}
			for j := n; j < filled; j++ {
				if row[j] != 0 {
					t.Errorf("n %d: element %d behind the row is %g", n, j, row[j])
				}
			}
			if top != largest || math.Abs(float64(sum)-total) > float64(n+2)*u*total {
				t.Errorf("n %d: top %g and sum %g, want %g and %g", n, top, sum, largest, total)
			}
			x.contained(t)
		}
	})
}

func TestSoftmaxOfExtremes(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	payload := math.Float32frombits(0x7fffffff)
	everyISA(t, func(t *testing.T, isa ISA) {
		kern := kernelFor(isa)
		for at := range 20 {
			row := make([]float32, 32)
			row[at] = -3e38
			if top, sum := kern.softmax(&row[0], 20, -inf); top != 0 || row[at] > 1e-37 || sum != 19 {
				t.Errorf("very small score at %d: top %g, sum %g, exp %g", at, top, sum, row[at])
			}
			for _, bad := range []float32{nan, payload, -nan} {
				row = make([]float32, 32)
				row[at] = bad
				if _, sum := kern.softmax(&row[0], 20, -inf); sum == sum || row[at] == row[at] {
					t.Errorf("NaN %x at %d is lost: sum %g, exp %g", math.Float32bits(bad), at, sum, row[at])
				}
			}
		}
	})
}

func TestElementwiseEveryLength(t *testing.T) {
	everyISA(t, func(t *testing.T, isa ISA) {
		c := NewISA(isa, 2)
		r := rand.New(rand.NewPCG(1, 2))
		for cols := 1; cols <= 50; cols++ {
			gate, up := newGuarded(3, cols, cols%3).filledWith(r, 4), newGuarded(3, cols, cols%2).filledWith(r, 1)
			gate.Row(1)[cols/2], gate.Row(2)[cols/2] = 200, -200
			gate.was = bitsOf(gate.all)
			dst, norm := newGuarded(3, cols, cols%5), newGuarded(3, cols, 1)
			c.SiLUMul(dst.Matrix, gate.Matrix, up.Matrix)
			c.RMSNorm(norm.Matrix, gate.Matrix, up.Row(0), 1e-5)
			for i := range 3 {
				square := 0.0
				for _, g := range gate.Row(i) {
					square += float64(g) * float64(g)
				}
				factor := 1 / math.Sqrt(square/float64(cols)+float64(float32(1e-5)))
				for j, g := range gate.Row(i) {
					x := float64(g)
					want := x / (1 + math.Exp(-x)) * float64(up.Row(i)[j])
					// exp and four roundings; beyond exp(88) the quotient stops shrinking.
					if got := float64(dst.Row(i)[j]); !(math.Abs(got-want) <= 6*u*math.Abs(want)+0x1p-118*math.Abs(float64(up.Row(i)[j]))) {
						t.Errorf("%d columns: silu(%g)·%g is %g, want %g", cols, g, up.Row(i)[j], got, want)
					}
					want = x * factor * float64(up.Row(0)[j])
					if got := float64(norm.Row(i)[j]); !(math.Abs(got-want) <= (float64(cols)/2+4)*u*math.Abs(want)) {
						t.Errorf("%d columns: norm of %g is %g, want %g", cols, g, got, want)
					}
				}
			}
			gate.unchanged(t, "gate")
			up.unchanged(t, "up")
			dst.contained(t)
			norm.contained(t)
		}
	})
}
