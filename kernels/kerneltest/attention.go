package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"quantize/kernels"
	"quantize/packer"
)

// CoarseAttention is implemented by an Attender that rounds more than the twin, for
// example bf16 probabilities under kernels.AttentionBF16: the relative L2 error it adds.
type CoarseAttention interface {
	AttentionError(f kernels.AttentionFormat) float64
}

// CoarseScores is implemented by an Attender that sums the scores of a format in fewer bits
// than FP32: the error of a score of headDim channels, in units of the largest product
// a.Scale·|q[c]·k[c]| in it. Outputs may be off by as much, relatively, and lse absolutely.
type CoarseScores interface {
	ScoreError(f kernels.AttentionFormat, headDim int) float64
}

// NarrowAttention is implemented by an Attender that takes finite operands in BF16: the
// suite's are then such numbers, so that the bounds of a format hold as they stand.
type NarrowAttention interface {
	AttentionBF16()
}

// attentionFormat is a format and how far from exact attention it may be on N(0,1).
type attentionFormat struct {
	kernels.AttentionFormat
	// Relative L2 errors: the root mean square over cases, and the largest of a case.
	mean, worst float64
}

// Rounding P to E4M3 costs a relative error of 0.025, V 0.026, INT8 queries and keys
// 0.012: small cases scatter around that, and 0.04 is a cosine of at least
// sqrt(1 - 0.04²) = 0.9992 (docs/methods.md 2.13). The bounds of coarser formats are 1.15
// times what the twins show.
var attentionFormats = []attentionFormat{
	{kernels.AttentionFormat{}, 1e-6, 2e-6},
	{kernels.AttentionFormat{SmoothK: true, SmoothQ: true, SmoothV: true, QueryTile: 128}, 1e-6, 2e-6},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt8, SmoothK: true}, 0.035, 0.04},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt8, SmoothK: true, Granularity: kernels.PerWarp, QueryTile: 128}, 0.035, 0.04},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt8, SmoothK: true, Granularity: kernels.PerThread}, 0.035, 0.04},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt8, SmoothK: true, SmoothQ: true, SmoothV: true, Granularity: kernels.PerThread}, 0.035, 0.04},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt4, SmoothK: true, SmoothQ: true, Granularity: kernels.PerThread}, 0.175, 0.22},
	{kernels.AttentionFormat{Mode: kernels.AttentionFP8, SmoothK: true, Granularity: kernels.PerThread}, 0.052, 0.065},
	{kernels.AttentionFormat{Mode: kernels.AttentionFP8, QueryTile: 128}, 0.053, 0.067},
	{kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: packer.KVScheme{Format: packer.KVFP8, FP8Queries: true}}, 0.054, 0.067},
	{kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: packer.KVScheme{Format: packer.KVInt4, Symmetric: true, FP8Queries: true}}, 0.19, 0.22},
	{kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: packer.KVScheme{Format: packer.KVInt4, GroupSize: 32, FP8Queries: true}}, 0.135, 0.155},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt8, SmoothK: true, SmoothV: true, Granularity: kernels.PerThread}, 0.035, 0.04},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt4, SmoothK: true, Granularity: kernels.PerThread}, 0.19, 0.25},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt8, SmoothK: true, Hadamard: true, Granularity: kernels.PerThread}, 0.035, 0.04},
	{kernels.AttentionFormat{Mode: kernels.AttentionInt4, SmoothK: true, SmoothQ: true, Hadamard: true, Granularity: kernels.PerThread}, 0.175, 0.22},
}

func (f attentionFormat) String() string {
	name := f.Mode.String() + " " + f.Granularity.String() + fmt.Sprint(f.Tile())
	for _, s := range []struct {
		on   bool
		name string
	}{{f.SmoothQ, "q"}, {f.SmoothK, "k"}, {f.SmoothV, "v"}} {
		if s.on {
			name += " smooth-" + s.name
		}
	}
	if f.Hadamard {
		name += " hadamard"
	}
	if f.KV.Format != packer.KVNone {
		name += " cache " + f.KV.String()
	}
	return name
}

// AttentionFormats are the formats of the suite, in its order.
func AttentionFormats() []kernels.AttentionFormat {
	all := make([]kernels.AttentionFormat, len(attentionFormats))
	for i, f := range attentionFormats {
		all[i] = f.AttentionFormat
	}
	return all
}

// attentionShapes are sequences, heads and lengths at the edges of tiles; queries
// beyond the number of keys see nothing.
var attentionShapes = []kernels.Attention{
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 1, Keys: 1, Causal: true},
	{Batch: 1, Heads: 2, KVHeads: 2, HeadDim: 64, Queries: 63, Keys: 63, Causal: true},
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 128, Queries: 64, Keys: 64, Causal: true},
	{Batch: 1, Heads: 4, KVHeads: 1, HeadDim: 64, Queries: 65, Keys: 65, Causal: true},
	{Batch: 2, Heads: 1, KVHeads: 1, HeadDim: 128, Queries: 127, Keys: 127},
	{Batch: 1, Heads: 8, KVHeads: 1, HeadDim: 64, Queries: 1, Keys: 129, Causal: true},
	{Batch: 1, Heads: 8, KVHeads: 2, HeadDim: 128, Queries: 2, Keys: 127, Causal: true},
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 129, Keys: 129, Causal: true},
	{Batch: 1, Heads: 2, KVHeads: 1, HeadDim: 64, Queries: 65, Keys: 129},
	{Batch: 2, Heads: 2, KVHeads: 1, HeadDim: 64, Queries: 129, Keys: 65, Causal: true}, // 64 queries see nothing
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 3, Keys: 0},
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 0, Keys: 3},
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 129, Keys: 300, Causal: true, Window: 70},
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 128, Queries: 65, Keys: 65, Causal: true, Window: 1},
	{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 96, Queries: 65, Keys: 129, Causal: true},
}

// attentionMasks are the blocks of masks, tiles and others.
var attentionMasks = [][2]int{{64, 128}, {128, 64}, {50, 30}}

// RunAttention runs the suite of an Attender as subtests of t, one a format. Every case
// is held to float64 twice: to attention of the operands as they are, within what the
// format costs, and to attention of the operands that the format rounds them to
// (ref.RoundAttention), within what rounding probabilities costs, and 1e-3 for lse.
// What the implementation does not support is skipped: the caller compares the formats of
// which something ran, which are returned, with those that it must have.
func RunAttention(t *testing.T, b kernels.Attender) []kernels.AttentionFormat {
	t.Helper()
	var ran []kernels.AttentionFormat
	for number, f := range attentionFormats {
		t.Run(f.String(), func(t *testing.T) {
			s := &attentionSuite{implementation: b, format: f, number: 1000 * number}
			for _, shape := range attentionShapes {
				s.normal(t, "N(0,1)", shape)
			}
			for _, block := range attentionMasks {
				shape := kernels.Attention{Batch: 2, Heads: 2, KVHeads: 1, HeadDim: 64, Queries: 150, Keys: 280, Causal: block[0] != 64}
				s.normal(t, fmt.Sprintf("mask of %v", block), masked(s.seed(), shape, block))
			}
			s.long(t)
			s.properties(t)
			if s.ran > 0 {
				ran = append(ran, f.AttentionFormat)
			}
			s.finish(t)
		})
	}
	return ran
}

// masked gives a a random mask that hides every block of the first query row and one
// whole key column, so that rows and tiles without any key occur.
func masked(r *rand.Rand, a kernels.Attention, block [2]int) kernels.Attention {
	rows, cols := (a.Queries+block[0]-1)/block[0], (a.Keys+block[1]-1)/block[1]
	a.Mask = &kernels.BlockMask{QueryBlock: block[0], KeyBlock: block[1], Keep: make([]bool, a.Batch*a.Heads*rows*cols)}
	for n := range a.Mask.Keep {
		a.Mask.Keep[n] = r.IntN(2) == 0 && n/cols%rows != 0 && n%cols != 1
	}
	return a
}

// long is the length past 32 tiles, square in a window, and in full for few queries.
func (s *attentionSuite) long(t *testing.T) {
	t.Helper()
	window := kernels.Attention{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 4097, Keys: 4097, Causal: true, Window: 20}
	few := kernels.Attention{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 33, Keys: 4097, Causal: true}
	s.normal(t, "N(0,1)", window)
	s.normal(t, "N(0,1)", few)
}

func scaleOf(a kernels.Attention) float32 { return float32(1 / math.Sqrt(float64(a.HeadDim))) }
