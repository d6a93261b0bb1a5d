package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"quantize/model"
	"quantize/tensor"
)

// benchShapes are (M, K, N): a cube and the MLPs of Qwen2.5-0.5B and SmolLM2-135M.
var benchShapes = [][3]int{{1024, 1024, 1024}, {2048, 896, 4864}, {2048, 4864, 896}, {2048, 576, 1536}, {2048, 1536, 576}}

// BenchmarkLinear times y = x·Wᵀ, with FP32 weights and with BF16 ones, beside
// gonum. bench/run.sh puts OpenBLAS beside it.
func BenchmarkLinear(b *testing.B) {
	for _, s := range benchShapes {
		m, k, n := s[0], s[1], s[2]
		r := rand.New(rand.NewPCG(1, 1))
		x, w := newGuarded(m, k, 0).filledWith(r, 1), newGuarded(n, k, 0).filledWith(r, 1)
		dst, other := tensor.NewMatrix(m, n), tensor.NewMatrix(m, n)
		linear := New().Linear(w.Matrix, nil)
		short := tensor.NewMatrix(n, k)
		for i := range n {
			for p, v := range w.Row(i) {
				short.Row(i)[p] = tensor.BF16Value(tensor.BF16Bits(v))
			}
		}
		stored := New().Linear(short, nil)
		general := func(m tensor.Matrix) blas32.General {
			return blas32.General{Rows: m.Rows, Cols: m.Cols, Stride: m.Stride, Data: m.Data}
		}
		ours := func() { linear.Forward(dst, x.Matrix) }
		bf16 := func() { stored.Forward(dst, x.Matrix) }
		gonum := func() {
			blas32.Gemm(blas.NoTrans, blas.Trans, 1, general(x.Matrix), general(w.Matrix), 0, general(other))
		}
		for _, c := range []struct {
			name   string
			do     func()
			out, w tensor.Matrix
		}{{"ours", ours, dst, w.Matrix}, {"bf16", bf16, dst, short}, {"gonum", gonum, other, w.Matrix}} {
			b.Run(fmt.Sprintf("%dx%dx%d/%s", m, k, n, c.name), func(b *testing.B) {
				c.do()
				for i := 0; i < m; i += 61 {
					for j := 0; j < n; j += 37 {
						sum, mass := 0.0, 0.0
						for p, v := range x.Row(i) {
							term := float64(v) * float64(c.w.Row(j)[p])
							sum, mass = sum+term, mass+max(term, -term)
						}
						if d := float64(c.out.Row(i)[j]) - sum; !(max(d, -d) <= float64(k)*u*mass) {
							b.Fatalf("element (%d, %d) is off by %g", i, j, d)
						}
					}
				}
				best := time.Hour // the program for OpenBLAS reports its best, too
				for b.Loop() {
					start := time.Now()
					c.do()
					best = min(best, time.Since(start))
				}
				b.ReportMetric(2*float64(m)*float64(k)*float64(n)/best.Seconds()*1e-9, "GFLOP/s")
			})
		}
	}
}

// BenchmarkAttend counts the products of visible pairs only. The shapes are
// those of SmolLM2-135M and Qwen2.5-0.5B.
func BenchmarkAttend(b *testing.B) {
	for _, a := range []model.Attention{{Heads: 9, KVHeads: 3, HeadDim: 64, Scale: 0.125}, {Heads: 14, KVHeads: 2, HeadDim: 64, Scale: 0.125}} {
		const m = 2048
		b.Run(fmt.Sprintf("%dx%dx%d", m, a.Heads, a.HeadDim), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			q := newGuarded(m, a.Heads*a.HeadDim, 0).filledWith(r, 1)
			k, v := newGuarded(m, a.KVHeads*a.HeadDim, 0).filledWith(r, 1), newGuarded(m, a.KVHeads*a.HeadDim, 0).filledWith(r, 1)
			dst := tensor.NewMatrix(m, q.Cols)
			c := New()
			best := time.Hour
			for b.Loop() {
				start := time.Now()
				c.Attend(dst, q.Matrix, k.Matrix, v.Matrix, a)
				best = min(best, time.Since(start))
			}
			visible := float64(m) * (m + 1) / 2
			b.ReportMetric(4*visible*float64(a.Heads*a.HeadDim)/best.Seconds()*1e-9, "GFLOP/s")
		})
	}
}

// BenchmarkElementwise reports elements a second at SmolLM2's shapes.
func BenchmarkElementwise(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	gate, up := newGuarded(2048, 1536, 0).filledWith(r, 1), newGuarded(2048, 1536, 0).filledWith(r, 1)
	dst := tensor.NewMatrix(2048, 1536)
	c := New()
	for name, do := range map[string]func(){
		"SiLUMul": func() { c.SiLUMul(dst, gate.Matrix, up.Matrix) },
		"RMSNorm": func() { c.RMSNorm(dst, gate.Matrix, up.Row(0), 1e-5) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				do()
			}
			b.ReportMetric(2048*1536*float64(b.N)/b.Elapsed().Seconds()*1e-9, "Gelem/s")
		})
	}
}
