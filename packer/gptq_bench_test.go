package packer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"quantize/calibrate"
)

// BenchmarkGPTQ checks a smaller problem against the formula, then times the
// factorization and the rounding of one linear, without a fast product.
func BenchmarkGPTQ(b *testing.B) {
	h := gramian(128, 256, 1)
	w := randomMatrix(32, 128, 1, gaussian)
	q, rep := gptq(b, w, factor(b, h, FactorOptions{ActOrder: true}), lut(128))
	if want := outputError(w, q, LUT, h); !agree(rep.Loss, want, 1e-8) || rep.Loss >= rep.LossRTN {
		b.Fatalf("loss %g, by the formula %g, of RTN %g", rep.Loss, want, rep.LossRTN)
	}
	for _, c := range []struct{ k, n int }{{1536, 576}, {4864, 896}} {
		h := correlated(c.k)
		b.Run(fmt.Sprintf("factor/K=%d", c.k), func(b *testing.B) {
			k := float64(c.k)
			for b.Loop() {
				b.StopTimer()
				fresh := hessianOf(h)
				b.StartTimer()
				if _, err := FactorHessian(fresh, FactorOptions{ActOrder: true}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(k*k*k/3*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
		b.Run(fmt.Sprintf("round/K=%d/N=%d", c.k, c.n), func(b *testing.B) {
			f := factor(b, h, FactorOptions{ActOrder: true})
			w := randomMatrix(c.n, c.k, 2, gaussian)
			var rep *GPTQReport
			for b.Loop() {
				_, rep = gptq(b, w, f, lut(128))
			}
			b.ReportMetric(10*math.Log10(rep.LossRTN/rep.Loss), "dB")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.k*c.n), "ns/weight")
		})
	}
}

// correlated is the Hessian of channels of an autoregressive process, of
// different sizes in no order.
func correlated(k int) []float64 {
	r := rand.New(rand.NewPCG(9, 9))
	size := make([]float64, k)
	for i := range size {
		size[i] = math.Exp(r.NormFloat64())
	}
	powers := make([]float64, k)
	for i := range powers {
		powers[i] = math.Pow(0.99, float64(i)) // no subnormal products, which are slow
	}
	h := calibrate.Hessian{K: k, Data: make([]float64, k*k)}
	for i := range k {
		for j := range k {
			h.Data[i*k+j] = size[i] * size[j] * powers[max(i-j, j-i)]
		}
	}
	return h.Data
}
