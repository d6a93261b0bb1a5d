package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"quantize/kernels/cpu"
	"quantize/smoothing"
	"quantize/tensor"
)

func randomMatrix(seed uint64, rows, cols int) tensor.Matrix {
	r := rand.New(rand.NewPCG(seed, 1))
	x := tensor.NewMatrix(rows, cols)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	return x
}

func cloneMatrix(x tensor.Matrix) tensor.Matrix {
	c := tensor.NewMatrix(x.Rows, x.Cols)
	copy(c.Data, x.Data)
	return c
}

// One result, to the bit, on every instruction set and any number of workers,
// and that of the float64 transform at the widths of published models.
func TestHadamardIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1536, 4864, 11008, 14336, 29568} {
		h, err := smoothing.NewHadamard(n)
		if err != nil {
			t.Fatal(err)
		}
		x := randomMatrix(uint64(n), 3, n)
		first := cloneMatrix(x)
		cpu.NewISA(cpu.Generic, 1).Hadamard(h)(first)
		wide := make([]float64, n)
		for i := range x.Rows {
			sum := 0.0
			for j, v := range x.Row(i) {
				wide[j] = float64(v)
				sum += math.Abs(wide[j])
			}
			h.Apply(wide)
			for j, v := range first.Row(i) {
				if d := math.Abs(float64(v) - wide[j]); d > 0x1p-24*sum { // u·Σ|x|: √n of its bound
					t.Fatalf("%v: element (%d, %d) is off by %g", h, i, j, d)
				}
			}
		}
		for _, isa := range cpu.Available() {
			for _, workers := range []int{1, 3} {
				got := cloneMatrix(x)
				cpu.NewISA(isa, workers).Hadamard(h)(got)
				for i, v := range got.Data {
					if math.Float32bits(v) != math.Float32bits(first.Data[i]) {
						t.Fatalf("%v, %v, %d workers: element %d is %v, not %v", h, isa, workers, i, v, first.Data[i])
					}
				}
			}
		}
	}
}

// BenchmarkHadamard times rows of the inputs of down: SmolLM2-135M, Llama-2-7B,
// Llama-3-8B and 70B, Qwen2.5-0.5B and 72B; one worker.
func BenchmarkHadamard(b *testing.B) {
	for _, n := range []int{1536, 4864, 11008, 14336, 28672, 29568} {
		h, err := smoothing.NewHadamard(n)
		if err != nil {
			b.Fatal(err)
		}
		x := randomMatrix(1, 8, n)
		for _, isa := range cpu.Available() {
			b.Run(fmt.Sprintf("%d/%v", n, isa), func(b *testing.B) {
				rotate := cpu.NewISA(isa, 1).Hadamard(h)
				got, want := cloneMatrix(x), make([]float64, n)
				for j, v := range x.Row(5) {
					want[j] = float64(v)
				}
				h.Apply(want)
				rotate(got)
				for j, v := range got.Row(5) {
					if d := math.Abs(float64(v) - want[j]); d > 1e-4 {
						b.Fatalf("element %d is off by %g", j, d)
					}
				}
				for b.Loop() {
					rotate(got)
				}
				b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(len(x.Data)), "ns/element")
				b.ReportMetric(float64(h.Additions()), "additions")
			})
		}
	}
}
