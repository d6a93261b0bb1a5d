package cpu_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/kernels/kerneltest"
	"quantize/kernels/ref"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// Every format runs that rounds something and reads no cache.
func TestAttention(t *testing.T) {
	t.Parallel()
	want := slices.DeleteFunc(kerneltest.AttentionFormats(), func(f kernels.AttentionFormat) bool {
		return f.Mode == kernels.AttentionBF16 || f.KV.Format != packer.KVNone
	})
	for _, isa := range cpu.Available() {
		t.Run(isa.String(), func(t *testing.T) {
			t.Parallel()
			ran := kerneltest.RunAttention(t, cpu.NewISA(isa, 3))
			if diff := cmp.Diff(want, ran); diff != "" {
				t.Errorf("formats that ran (-want +got):\n%s", diff)
			}
		})
	}
}

// normal is a (rows, cols) matrix of N(0,1).
func normal(r *rand.Rand, rows, cols int) tensor.Matrix {
	x := tensor.NewMatrix(rows, cols)
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	return x
}

// modes are the modes, each with other groups and smoothing.
var modes = []kernels.AttentionFormat{
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true},
	{Mode: kernels.AttentionInt4, Granularity: kernels.PerThread, SmoothQ: true, SmoothK: true},
	{Mode: kernels.AttentionFP8, Granularity: kernels.PerWarp, SmoothV: true},
	{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true, Hadamard: true},
}

func relativeL2(got, want tensor.Matrix) float64 {
	noise, signal := 0.0, 0.0
	for i, w := range want.Data {
		d := float64(got.Data[i]) - float64(w)
		noise, signal = noise+d*d, signal+float64(w)*float64(w)
	}
	return math.Sqrt(noise / signal)
}

// The twin's output, within what neighbours in E4M3 of a few probabilities cost (here at
// most 1.5e-4; rounding all of them to E4M3 costs 0.025).
func TestAttentionIsTheTwins(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 1))
	a := kernels.Attention{Batch: 2, Heads: 4, KVHeads: 2, HeadDim: 64, Queries: 200, Keys: 333, Causal: true, Scale: 0.125}
	q, k, v := normal(r, 400, 256), normal(r, 666, 128), normal(r, 666, 128)
	for _, f := range modes {
		a.Format = f
		want, lse := tensor.NewMatrix(400, 256), tensor.NewMatrix(400, 4)
		if err := (&ref.Compute{}).Attention(want, lse, q, k, v, a); err != nil {
			t.Fatal(err)
		}
		for _, isa := range cpu.Available() {
			got, gotLSE := tensor.NewMatrix(400, 256), tensor.NewMatrix(400, 4)
			if err := cpu.NewISA(isa, 2).Attention(got, gotLSE, q, k, v, a); err != nil {
				t.Fatal(err)
			}
			if e := relativeL2(got, want); !(e <= 5e-4) {
				t.Errorf("%v, %v: relative error %.2g to the twin", isa, f.Mode, e)
			}
			if e := relativeL2(gotLSE, lse); !(e <= 1e-6) {
				t.Errorf("%v, %v: relative error %.2g of lse to the twin's", isa, f.Mode, e)
			}
		}
	}
}

// Of any shape and mask the outputs are the twin's, but for a few rows: those where a
// probability has taken its other neighbour in E4M3, at most an eighth away.
func TestAttentionOfAnyShape(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(8, rapid.Uint64().Draw(t, "seed")))
		a := anyAttention(t, r)
		q, k := normal(r, a.Batch*a.Queries, a.Heads*a.HeadDim), normal(r, a.Batch*a.Keys, a.KVHeads*a.HeadDim)
		v := normal(r, k.Rows, k.Cols)
		want, wantLSE := tensor.NewMatrix(q.Rows, q.Cols), tensor.NewMatrix(q.Rows, a.Heads)
		got, gotLSE := tensor.NewMatrix(q.Rows, q.Cols), tensor.NewMatrix(q.Rows, a.Heads)
		if err := ref.New().Attention(want, wantLSE, q, k, v, a); err != nil {
			t.Fatal(err)
		}
		isa := rapid.SampledFrom(cpu.Available()).Draw(t, "instruction set")
		if err := cpu.NewISA(isa, 2).Attention(got, gotLSE, q, k, v, a); err != nil {
			t.Fatal(err)
		}
		largest := 0.0
		for _, x := range v.Data {
			largest = max(largest, math.Abs(float64(x)))
		}
		moved, rows := 0, q.Rows*a.Heads
		for n := range rows {
			i, h := n/a.Heads, n%a.Heads
			x, w := gotLSE.Row(i)[h], wantLSE.Row(i)[h]
			if x != w && !(math.Abs(float64(x-w)) <= 1e-5*max(1, math.Abs(float64(w)))) {
				t.Fatalf("token %d, head %d: lse %v, wanted %v", i, h, x, w)
			}
			off := 0.0
			for c := h * a.HeadDim; c < (h+1)*a.HeadDim; c++ {
				off = max(off, math.Abs(float64(got.Row(i)[c]-want.Row(i)[c]))) // NaN stays
			}
			if !(off <= largest/8) {
				t.Fatalf("token %d, head %d: off by %v, values reach %v", i, h, off, largest)
			}
			if off > 1e-5 {
				moved++
			}
		}
		if moved > 2+rows/50 {
			t.Fatalf("%d of %d rows are off by more than FP32", moved, rows)
		}
	})
}

// anyAttention draws a call in a format that the CPU has, its mask from r.
func anyAttention(t *rapid.T, r *rand.Rand) kernels.Attention {
	upTo := func(name string, n int) int { return rapid.IntRange(1, n).Draw(t, name) }
	a := kernels.Attention{
		Batch: upTo("batch", 2), KVHeads: upTo("KV heads", 2), HeadDim: upTo("channels", 80),
		Queries: upTo("queries", 140), Keys: upTo("keys", 300), Causal: rapid.Bool().Draw(t, "causal"),
		Format: kernels.AttentionFormat{
			Mode:        rapid.SampledFrom([]kernels.AttentionMode{kernels.AttentionInt8, kernels.AttentionInt4, kernels.AttentionFP8}).Draw(t, "mode"),
			Granularity: rapid.SampledFrom([]kernels.Granularity{kernels.PerBlock, kernels.PerWarp, kernels.PerThread}).Draw(t, "granularity"),
			QueryTile:   rapid.SampledFrom([]int{0, 128}).Draw(t, "query tile"),
			SmoothQ:     rapid.Bool().Draw(t, "smooth Q"), SmoothK: rapid.Bool().Draw(t, "smooth K"), SmoothV: rapid.Bool().Draw(t, "smooth V"),
		},
	}
	if rapid.Bool().Draw(t, "hadamard") {
		a.Format.Hadamard, a.HeadDim = true, 1<<rapid.IntRange(0, 6).Draw(t, "log2 channels")
	}
	a.Heads, a.Scale = a.KVHeads*upTo("heads of a KV head", 3), float32(1/math.Sqrt(float64(a.HeadDim)))
	if a.Causal && rapid.Bool().Draw(t, "in a window") {
		a.Window = upTo("window", 300)
	}
	if rapid.Bool().Draw(t, "masked") {
		m := &kernels.BlockMask{QueryBlock: upTo("query block", 140), KeyBlock: upTo("key block", 300)}
		m.Keep = make([]bool, a.Batch*a.Heads*((a.Queries+m.QueryBlock-1)/m.QueryBlock)*((a.Keys+m.KeyBlock-1)/m.KeyBlock))
		for n := range m.Keep {
			m.Keep[n] = r.IntN(3) > 0
		}
		a.Mask = m
	}
	return a
}

// The memory that calls leave to the next one, and the number of workers, do not show.
func TestAttentionBits(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(8, 2))
	for _, isa := range cpu.Available() {
		for _, f := range modes {
			d, others := 40, 70
			if f.Hadamard {
				d, others = 32, 64
			}
			a := kernels.Attention{Batch: 1, Heads: 6, KVHeads: 2, HeadDim: d, Queries: 300, Keys: 300, Causal: true, Window: 170, Scale: 0.2, Format: f}
			q, k, v := normal(r, 300, 6*d), normal(r, 300, 2*d), normal(r, 300, 2*d)
			var first tensor.Matrix
			for _, workers := range []int{1, 2, 5} {
				c, got := cpu.NewISA(isa, workers), tensor.NewMatrix(300, 6*d)
				if err := c.Attention(got, tensor.Matrix{}, q, k, v, a); err != nil {
					t.Fatal(err)
				}
				if first.Rows == 0 {
					first = got
				} else if !slices.Equal(first.Data, got.Data) {
					t.Errorf("%v, %v: %d workers and one differ", isa, f.Mode, workers)
				}
				nan := tensor.NewMatrix(500, others)
				for i := range nan.Data {
					nan.Data[i] = float32(math.NaN())
				}
				other := kernels.Attention{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: others, Queries: 500, Keys: 500, Scale: 1, Format: f}
				if err := c.Attention(tensor.NewMatrix(500, others), tensor.Matrix{}, nan, nan, nan, other); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// BenchmarkAttention times what a plan can name (docs/attention.md): SmolLM2's heads on a
// window, beside full precision.
func BenchmarkAttention(b *testing.B) {
	const m = 2048
	r := rand.New(rand.NewPCG(8, 4))
	q, k, v, dst := normal(r, m, 576), normal(r, m, 192), normal(r, m, 192), tensor.NewMatrix(m, 576)
	c := cpu.New()
	exact := tensor.NewMatrix(m, 576)
	b.Run("fp32", func(b *testing.B) {
		for b.Loop() {
			c.Attend(exact, q, k, v, model.Attention{Heads: 9, KVHeads: 3, HeadDim: 64, Scale: 0.125})
		}
	})
	for _, mode := range []kernels.AttentionMode{kernels.AttentionInt8, kernels.AttentionInt4, kernels.AttentionFP8} {
		a := kernels.Attention{
			Batch: 1, Heads: 9, KVHeads: 3, HeadDim: 64, Queries: m, Keys: m, Causal: true, Scale: 0.125,
			Format: kernels.PlannedFormat(mode),
		}
		b.Run(mode.String(), func(b *testing.B) {
			for b.Loop() {
				if err := c.Attention(dst, tensor.Matrix{}, q, k, v, a); err != nil {
					b.Fatal(err)
				}
			}
			if e := relativeL2(dst, exact); !(e < 0.25) {
				b.Errorf("relative error %v", e)
			}
		})
	}
}
