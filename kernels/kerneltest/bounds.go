package kerneltest

import (
	"math"
	"testing"

	"quantize/packer"
)

// The error bounds. u is the unit roundoff of FP32; a sum of K products in FP32,
// in any order, fused or not, is off by at most K·u·Σ|a||b| to first order
// (Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5). The
// constants say how many roundings a kernel may add to that.
const (
	u = 0x1p-24

	// linearRoundings: the bias, and the store.
	linearRoundings = 2
	// quantRoundings: the token scale, the row scale, their product, the bias
	// and the store. Codes must be equal, so FP8 itself adds nothing.
	quantRoundings = 5
	// expRoundings: an exponential in FP32, as relative error in units of u,
	// beside the rounding of its argument.
	expRoundings = 8
	// attendRoundings: scale, maximum, division and store.
	attendRoundings = 6
	// The largest normalised mean square errors, averaged over a suite's cases:
	// roundings of random sign leave far less than the bounds allow, so that
	// these notice a sum in less than FP32. Measured on avx2 and generic:
	nmseProduct = 2e-13 // 3.8e-14
	nmseAttend  = 2e-13 // 3.4e-14
	nmseElement = 5e-14 // 9.1e-15
	// tiny is the absolute error that underflow may add to each product.
	tiny = 0x1p-149
)

// Result is an oracle's answer: elements in float64 and how far FP32
// arithmetic may be from them.
type Result struct {
	Rows, Cols   int
	Value, Bound []float64
	Extra        []float64 // what a coarser arithmetic may add to Bound, or nil
}

func newResult(rows, cols int) *Result {
	return &Result{Rows: rows, Cols: cols, Value: make([]float64, rows*cols), Bound: make([]float64, rows*cols)}
}

func (r *Result) set(i, j int, value, bound float64) {
	r.Value[i*r.Cols+j], r.Bound[i*r.Cols+j] = value, bound
}

// Coarse is implemented by a backend that computes some INT4 products in less
// than FP32. sum is how far its sums may be off, in units of Σ|a||b|, and store
// the relative rounding of what it stores; both are 0 for a product in FP32.
type Coarse interface {
	Int4Error(w *packer.Int4Weight, a packer.Arithmetic) (sum, store float64)
}

// tinyBF16 is the absolute error that underflow may add to a BF16.
const tinyBF16 = 0x1p-133

// coarse is the result for an arithmetic that is off by sum and store beyond FP32.
func (r *Result) coarse(magnitude []float64, sum, store float64) *Result {
	r.Extra = make([]float64, len(r.Value))
	for i, v := range r.Value {
		r.Extra[i] = sum*magnitude[i] + store*(math.Abs(v)+sum*magnitude[i]) + tinyBF16
	}
	return r
}

// Tally keeps the largest share of a bound that was used, and the normalised
// mean square error of the cases.
type Tally struct {
	Worst         float64
	noise, signal float64
}

// NMSE is the mean over cases of Σ(got-want)²/Σwant², taken over finite elements.
func (y *Tally) NMSE() float64 {
	if y.signal == 0 {
		return 0
	}
	return y.noise / y.signal
}

// finish prints the tally and holds its NMSE to a limit; the table of
// docs/numerics.md quotes these lines.
func (y *Tally) finish(t *testing.T, limit float64) {
	t.Helper()
	if n := y.NMSE(); !(n <= limit) {
		t.Errorf("normalised mean square error %.2e, want at most %.0e", n, limit)
	}
	t.Logf("largest error / bound %.3f, NMSE %.2e", y.Worst, y.NMSE())
}

// compare fails t where got leaves want: a NaN or an infinity must be one in
// both, everything else lies within the bound.
func (y *Tally) compare(t *testing.T, name string, got *operand, want *Result) {
	t.Helper()
	if got.Rows != want.Rows || got.Cols != want.Cols {
		t.Fatalf("%s: %dx%d, want %dx%d", name, got.Rows, got.Cols, want.Rows, want.Cols)
	}
	bad, caseSignal, caseNoise, caseBound := 0, 0.0, 0.0, 0.0
	for i := range got.Rows {
		for j, g := range got.Row(i) {
			w, bound := want.Value[i*want.Cols+j], want.Bound[i*want.Cols+j]
			fine := bound
			if want.Extra != nil {
				bound += want.Extra[i*want.Cols+j]
			}
			d := math.Abs(float64(g) - w)
			switch {
			case math.IsNaN(w) || math.IsInf(w, 0):
				if math.IsNaN(w) == math.IsNaN(float64(g)) && (math.IsNaN(w) || float64(g) == w) {
					continue
				}
			case d <= bound:
				caseBound += fine * fine
				if bound > 0 {
					y.Worst = max(y.Worst, d/bound)
				}
				caseNoise += d * d
				caseSignal += w * w
				continue
			}
			if bad++; bad <= 5 {
				t.Errorf("%s: element (%d, %d) is %v, want %v ± %.3g", name, i, j, g, w, bound)
			}
		}
	}
	if bad > 5 {
		t.Errorf("%s: %d elements wrong", name, bad)
	}
	// Each case counts alike, whatever its magnitude, unless FP32 cannot resolve it.
	if caseSignal > 0x1p-200 && caseBound < 1e-6*caseSignal {
		y.noise += caseNoise / caseSignal
		y.signal++
	}
}
