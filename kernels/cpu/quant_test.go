package cpu_test

import (
	"math/rand/v2"
	"testing"

	"quantize/kernels/cpu"
	"quantize/kernels/kerneltest"
	"quantize/packer"
	"quantize/tensor"
)

func TestKernels(t *testing.T) {
	for _, isa := range cpu.Available() {
		t.Run(isa.String(), func(t *testing.T) {
			t.Parallel()
			kerneltest.Run(t, cpu.NewISA(isa, 3))
		})
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
		c := cpu.New()
		full := c.Linear(w, nil)
		quant, err := c.QuantLinear(q, packer.Exact, nil)
		if err != nil {
			b.Fatal(err)
		}
		dst := tensor.NewMatrix(s.m, s.n)
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

// BenchmarkRoundTokens gives the cost of rounding activations, one worker.
func BenchmarkRoundTokens(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	x, dst := tensor.NewMatrix(256, 1536), tensor.NewMatrix(256, 1536)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	b.SetBytes(int64(4 * len(x.Data)))
	for b.Loop() {
		cpu.RoundTokens(1, dst, x)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(len(x.Data)), "ns/element")
}
