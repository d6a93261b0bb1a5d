package ref

import (
	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

// AttentionOperands are what a quantized attention multiplies: every number that a
// kernel's quantisation passes write, so that it can be compared with them to the bit.
// Codes are kept as the numbers they stand for (an INT8 code -5 as -5, an E4M3 byte as
// its value).
//
//	s[i,j] = scale·(Q[i]·K[j]·(QScales[i]·KScales[j]) + DeltaS[i/128, j])
//	lse[i] = ln Σ_j exp(s[i,j]) + Shift[i]
//	o[i,c] = Σ_j exp(s[i,j] - ln Σ)·V[j,c]·VScales[c] + VMeans[c]
type AttentionOperands struct {
	Attention kernels.Attention

	Q, K, V tensor.Matrix // codes, in the layout of the queries, keys and values
	QScales tensor.Matrix // (Batch·Queries, Heads): of each token, its group's
	KScales tensor.Matrix // (Batch·Keys, KVHeads)
	VScales tensor.Matrix // (Batch, KVHeads·HeadDim)

	QMeans tensor.Matrix // (Batch·⌈Queries/128⌉, Heads·HeadDim), zeros without SmoothQ
	KMeans tensor.Matrix // (Batch, KVHeads·HeadDim), zeros where none are taken off
	VMeans tensor.Matrix // (Batch, KVHeads·HeadDim), the same
	// DeltaS are the scores of the means of queries, (Batch·⌈Queries/128⌉·Heads, Keys),
	// row (b·⌈Queries/128⌉ + i/128)·Heads + h; without rows unless SmoothQ.
	DeltaS tensor.Matrix
	Shift  tensor.Matrix // (Batch·Queries, Heads): scale·(q·KMeans), what smooth K takes from lse
}

// RoundAttention smooths and rounds the operands of a, which Check has passed. Every
// step is FP32, rounded to nearest even, in this order; sums are exact to float64 and
// rounded once:
//
//	smooth    k̄[c] = Σ_j k[j,c] / Keys        k' = k - k̄          (SmoothK)
//	          q̄[c] = Σ_i q[i,c] / rows        q' = q - q̄          (SmoothQ, by 128 queries, the last block shorter)
//	          v̄[c] = Σ_j v[j,c] / Keys        v' = v - v̄          (SmoothV)
//	          ΔS[j] = Σ_c q̄[c]·k'[j,c]                             (SmoothQ, of k' before it is rounded)
//	turn      q'' = H·q' / 2^⌊n/2⌋    k'' = H·k' / 2^⌈n/2⌉    HeadDim = 2^n  (Hadamard; else q', k')
//	scores    δ = max(max|x'| / R, 2^-126)     over a group of tokens, all channels of a head
//	          code = clamp(round(x'·fl(1/δ)), -R, R)                R = 127 (INT8), 7 (INT4)
//	          code = e4m3(x'·fl(1/δ)), saturating                   R = 448 (FP8)
//	values    δ[c] = max(max_j|v'[j,c]| / 448, 2^-126)   code = e4m3(v'·fl(1/δ))
//
// so a group of zeros has codes 0. A group with a NaN or an infinity has the scale NaN
// and codes 0; a mean that is none takes its whole sequence and head along. AttentionBF16
// has codes x' and scales 1. What Format.KV stores is [roundCache]'s.
func RoundAttention(q, k, v tensor.Matrix, a kernels.Attention) *AttentionOperands {
	blocks := a.Batch * smoothBlocks(a)
	n, m := a.Heads*a.HeadDim, a.KVHeads*a.HeadDim
	o := &AttentionOperands{
		Attention: a,
		Q:         clone(q), K: clone(k), V: clone(v),
		QScales: ones(q.Rows, a.Heads), KScales: ones(k.Rows, a.KVHeads), VScales: ones(a.Batch, m),
		QMeans: tensor.NewMatrix(blocks, n), KMeans: tensor.NewMatrix(a.Batch, m), VMeans: tensor.NewMatrix(a.Batch, m),
		Shift: tensor.NewMatrix(q.Rows, a.Heads),
	}
	if a.Format.KV.Format != packer.KVNone {
		o.roundCache()
		return o
	}
	o.smooth()
	o.turn()
	o.roundScores()
	o.roundValues()
	return o
}

func smoothBlocks(a kernels.Attention) int {
	return (a.Queries + kernels.SmoothBlock - 1) / kernels.SmoothBlock
}

func clone(x tensor.Matrix) tensor.Matrix {
	y := tensor.NewMatrix(x.Rows, x.Cols)
	for i := range x.Rows {
		copy(y.Row(i), x.Row(i))
	}
	return y
}

func ones(rows, cols int) tensor.Matrix {
	x := tensor.NewMatrix(rows, cols)
	for i := range x.Data {
		x.Data[i] = 1
	}
	return x
}
