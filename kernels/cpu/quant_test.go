package cpu_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/kernels/cpu"
	"quantize/kernels/kerneltest"
	"quantize/kernels/ref"
	"quantize/packer"
	"quantize/tensor"
)

func TestKernels(t *testing.T) {
	t.Parallel()
	for _, isa := range cpu.Available() {
		t.Run(isa.String(), func(t *testing.T) {
			t.Parallel()
			kerneltest.Run(t, cpu.NewISA(isa, 3))
		})
	}
}

// Every instruction set rounds to the bits of ref.QuantizeToken, whatever the
// length: each E4M3 value and midpoint at a scale of one, and random tokens.
func TestRoundTokensEqualsTheTwin(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 5))
	for _, k := range []int{1, 7, 8, 15, 16, 17, 33, 260} {
		x := tensor.Matrix{Rows: 70, Cols: k, Stride: k + 3, Data: make([]float32, 70*(k+3))}
		for i := range x.Rows {
			for j := range k {
				switch {
				case i < 4: // scale one, if the row has its 448
					v, next := tensor.E4M3Value(uint8(r.IntN(126))), tensor.E4M3Value(uint8(r.IntN(126)))
					x.Row(i)[j] = (v + next) / 2
				case i < 60:
					x.Row(i)[j] = float32(math.Ldexp(r.NormFloat64(), r.IntN(30)-20))
				default:
					x.Row(i)[j] = math.Float32frombits(uint32(r.IntN(1<<23)) | uint32(r.IntN(2))<<31)
				}
			}
			if i < 4 {
				x.Row(i)[r.IntN(k)] = -448
			}
		}
		codes := make([]uint8, k)
		for _, isa := range cpu.Available() {
			got := tensor.NewMatrix(x.Rows, k)
			cpu.NewISA(isa, 2).RoundTokens(got, x)
			for i := range x.Rows {
				a := ref.QuantizeToken(codes, x.Row(i))
				for j, c := range codes {
					if want := a * tensor.E4M3Value(c); got.Row(i)[j] != want {
						t.Fatalf("%v, K %d: %v of scale %v is %v, want %v", isa, k, x.Row(i)[j], a, got.Row(i)[j], want)
					}
				}
			}
		}
	}
}

// BenchmarkQuantLinear times SmolLM2's and Qwen2.5's shapes beside the same
// product without quantization.
func BenchmarkQuantLinear(b *testing.B) {
	for _, s := range []struct {
		name    string
		m, n, k int
	}{{"smol-k", 2048, 192, 576}, {"smol-q", 2048, 576, 576}, {"smol-up", 2048, 1536, 576}, {"qwen-down", 2048, 896, 4864}} {
		r := rand.New(rand.NewPCG(1, 1))
		w := tensor.NewMatrix(s.n, s.k)
		x := tensor.NewMatrix(s.m, s.k)
		for i := range w.Data {
			w.Data[i] = float32(r.NormFloat64())
		}
		for i := range x.Data {
			x.Data[i] = float32(r.NormFloat64())
		}
		q := &packer.FP8Weight{N: s.n, K: s.k, Codes: make([]uint8, s.n*s.k), Scales: make([]float32, s.n)}
		for i := range q.Codes {
			q.Codes[i] = tensor.E4M3(w.Data[i])
		}
		for i := range q.Scales {
			q.Scales[i] = 0.75
		}
		c := cpu.New()
		full := c.Linear(w, nil)
		quant, err := c.QuantLinear(q, packer.Exact, nil)
		if err != nil {
			b.Fatal(err)
		}
		dst := tensor.NewMatrix(s.m, s.n)
		quant.Forward(dst, x)
		checkRows(b, dst, x, q)
		flops := 2 * float64(s.m) * float64(s.n) * float64(s.k)
		b.Run(s.name+"/fp32", func(b *testing.B) {
			for b.Loop() {
				full.Forward(dst, x)
			}
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
		b.Run(s.name+"/w4a8", func(b *testing.B) {
			for b.Loop() {
				quant.Forward(dst, x)
			}
			b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// checkRows compares the first rows of dst with the twin's.
func checkRows(b *testing.B, dst, x tensor.Matrix, w packer.Weight) {
	b.Helper()
	twin, err := ref.New().QuantLinear(w, packer.Exact, nil)
	if err != nil {
		b.Fatal(err)
	}
	want := tensor.NewMatrix(2, dst.Cols)
	twin.Forward(want, x.RowRange(0, 2))
	for i := range 2 {
		for j, v := range want.Row(i) {
			if d := math.Abs(float64(dst.Row(i)[j] - v)); d > 1e-3*(1+math.Abs(float64(v))) {
				b.Fatalf("element (%d, %d) is %v, want %v", i, j, dst.Row(i)[j], v)
			}
		}
	}
}

// BenchmarkRoundTokens gives the cost of rounding activations, one worker.
func BenchmarkRoundTokens(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	x, dst := tensor.NewMatrix(256, 1536), tensor.NewMatrix(256, 1536)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	for _, isa := range cpu.Available() {
		b.Run(isa.String(), func(b *testing.B) {
			c := cpu.NewISA(isa, 1)
			c.RoundTokens(dst, x)
			codes := make([]uint8, x.Cols)
			a := ref.QuantizeToken(codes, x.Row(1))
			for k, code := range codes {
				if dst.Row(1)[k] != a*tensor.E4M3Value(code) {
					b.Fatalf("element %d is %v, want %v", k, dst.Row(1)[k], a*tensor.E4M3Value(code))
				}
			}
			for b.Loop() {
				c.RoundTokens(dst, x)
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(len(x.Data)), "ns/element")
		})
	}
}
