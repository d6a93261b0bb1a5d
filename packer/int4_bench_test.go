package packer

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/tensor"
)

// gaussian and studentT5 are the two kinds of weights for which the package's
// figures are stated.
func gaussian(r *rand.Rand) float32 { return float32(r.NormFloat64()) * 0.02 }

func studentT5(r *rand.Rand) float32 {
	var chi float64
	for range 5 {
		x := r.NormFloat64()
		chi += x * x
	}
	return float32(r.NormFloat64()/math.Sqrt(chi/5)) * 0.02
}

func randomMatrix(n, k int, seed uint64, draw func(*rand.Rand) float32) tensor.Matrix {
	r := rand.New(rand.NewPCG(seed, 17))
	m := tensor.NewMatrix(n, k)
	for i := range m.Data {
		m.Data[i] = draw(r)
	}
	return m
}

func BenchmarkQuantizeInt4(b *testing.B) {
	w := randomMatrix(1024, 1024, 1, studentT5)
	h := make([]float32, 1024)
	for j := range h {
		h[j] = 1 + float32(j%7)
	}
	for _, c := range []struct {
		name string
		o    Int4Options
	}{
		{"plain", Int4Options{GroupSize: 128, Grid: GridLUT}},
		{"lut", Int4Options{GroupSize: 128, Grid: GridLUT, Search: true}},
		{"exact", Int4Options{GroupSize: 128, Grid: GridExact, Search: true}},
		{"lut-g64", Int4Options{GroupSize: 64, Grid: GridLUT, Search: true}},
		{"lut-weighted", Int4Options{GroupSize: 128, Grid: GridLUT, Search: true, Importance: h}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var rep *Int4Report
			for b.Loop() {
				var err error
				if _, rep, err = QuantizeInt4(w, c.o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(rep.SNR(), "dB")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(w.Data)), "ns/weight")
		})
	}
}
