package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"quantize/tensor"
)

func random(r *rand.Rand, rows, cols, stride int) tensor.Matrix {
	m := tensor.Matrix{Rows: rows, Cols: cols, Stride: stride, Data: make([]float32, max(0, (rows-1)*stride+cols))}
	for i := range m.Data {
		m.Data[i] = r.Float32()*2 - 1
	}
	return m
}

func TestQuick(t *testing.T) {
	for _, isa := range Available() {
		r := rand.New(rand.NewPCG(1, 1))
		for _, s := range [][3]int{{1, 1, 1}, {7, 33, 17}, {70, 900, 50}, {200, 100, 64}} {
			m, k, n := s[0], s[1], s[2]
			x, w := random(r, m, k, k), random(r, n, k, k)
			b := random(r, 1, n, n)
			dst := tensor.NewMatrix(m, n)
			NewISA(isa, 2).Linear(w, b.Data).Forward(dst, x)
			for i := range m {
				for j := range n {
					sum, mass := float64(b.Data[j]), 1.0
					for p := range k {
						v := float64(x.Row(i)[p]) * float64(w.Row(j)[p])
						sum += v
						mass += math.Abs(v)
					}
					if e := math.Abs(sum - float64(dst.Row(i)[j])); !(e <= float64(k+2)*0x1p-24*mass) {
						t.Fatalf("%s %v (%d,%d) %g want %g", isa, s, i, j, dst.Row(i)[j], sum)
					}
				}
			}
		}
	}
}

func BenchmarkLinear(b *testing.B) {
	for _, s := range [][3]int{{1024, 1024, 1024}, {2048, 896, 4864}, {2048, 4864, 896}, {2048, 576, 1536}, {2048, 1536, 576}} {
		m, k, n := s[0], s[1], s[2]
		b.Run(fmt.Sprintf("%dx%dx%d", m, k, n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			x, w, dst := random(r, m, k, k), random(r, n, k, k), tensor.NewMatrix(m, n)
			l := New().Linear(w, nil)
			for b.Loop() {
				l.Forward(dst, x)
			}
			b.ReportMetric(2*float64(m)*float64(k)*float64(n)*float64(b.N)/b.Elapsed().Seconds()*1e-9, "GFLOP/s")
		})
	}
}
