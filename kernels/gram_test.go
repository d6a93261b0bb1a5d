package kernels_test

import (
	"context"
	"math"
	"testing"

	"quantize/calibrate"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/model/modeltest"
)

// The fast product, wired into calibration, sums the Hessians of the plain one.
func TestGramOfTheFastProduct(t *testing.T) {
	t.Parallel()
	c := modeltest.Random(1, small)
	collect := func(product calibrate.MatMulT) *calibrate.Stats {
		m, err := model.New(c.Parsed(), c.Source(modeltest.Compute()), modeltest.Compute())
		if err != nil {
			t.Fatal(err)
		}
		windows := calibrate.Windows(modeltest.Tokens(1, 160, small.Vocab), 40, 0, 0)
		s, err := calibrate.Collect(context.Background(), m, windows, calibrate.Options{Hessians: calibrate.LinearInputs, MatMulT: product})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	plain, fast := collect(nil), collect(cpu.New().MatMulT)
	for i := range plain.Sites {
		want, got := plain.Sites[i], fast.Sites[i]
		if want.Hessian == nil {
			continue
		}
		k := want.Hessian.K
		for j, w := range want.Hessian.Data {
			// 40 products summed in FP32 a window; |Σ xy| <= sqrt(Σx²·Σy²)
			bound := 41 * 0x1p-24 * math.Sqrt(want.SumSq[j/k]*want.SumSq[j%k])
			if d := math.Abs(got.Hessian.Data[j] - w); d > bound {
				t.Fatalf("%v (%d, %d): %v, want %v ± %g", want.Site, j/k, j%k, got.Hessian.Data[j], w, bound)
			}
		}
	}
}
