package calibrate

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/tensor"
)

// Sums over spans of tokens equal the sum over all of them in float64.
func TestAccumulatorIsTheSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	const m, n, k = 2*tokenSpan + 7, panel + 3, 40
	y, x := tensor.NewMatrix(m, n), tensor.NewMatrix(m, k)
	for i := range y.Data {
		y.Data[i] = rng.Float32() - 0.5
	}
	for i := range x.Data {
		x.Data[i] = rng.Float32() - 0.5
	}
	a := NewAccumulator(nil)
	cross := make([]float64, n*k)
	h := &Hessian{K: k, Data: make([]float64, k*k)}
	a.Cross(cross, y, x)
	a.Add(h, x)
	a.Complete(h)
	check := func(what string, got []float64, rows int, left tensor.Matrix) {
		t.Helper()
		for i := range rows {
			for j := range k {
				want := 0.0
				for r := range m {
					want += float64(left.Row(r)[i]) * float64(x.Row(r)[j])
				}
				// 512 products of at most 1/4, summed in float64 and rounded once a span.
				if d := math.Abs(got[i*k+j] - want); d > 3*128*0x1p-24 {
					t.Fatalf("%s[%d,%d] is %g off", what, i, j, d)
				}
			}
		}
	}
	check("cross", cross, n, y)
	check("hessian", h.Data, k, x)
}
