package ref

import (
	"math"

	"quantize/kernels"
	"quantize/tensor"
)

// Attend multiplies the operands tile by tile as FlashAttention does (Dao,
// arXiv 2307.08691, algorithm 1; docs/methods.md 5.1, 2.6, 2.7), Tile queries by 128
// keys, keys ascending. Tiles that Attention.Touches denies are neither read nor
// computed. For each row of a tile, over the keys that it sees; m starts at -Inf, l and o
// at 0; a row that sees no key of the tile stays as it was:
//
//	t[j] = ((Q·K[j])·(QScales·KScales[j]) + DeltaS[j])·c      c = fl(scale·log2 e)
//	m'   = max(m, max_j t[j])       α = exp2(m - m')
//	p[j] = exp2(t[j] - m' + 8.807355)                         8.807355 = fl(log2 448): p <= 448
//	l    = α·l + Σ_j p[j]                                     p as it is
//	o    = α·o + R                  R = Σ_j e4m3(p[j])·V[j]   a fresh accumulator, then FP32
//
//	dst  = (o/l)·VScales + VMeans
//	lse  = (m + log2 l - 8.807355)·ln 2 + Shift               in float64, rounded once
//
// AttentionBF16 has p without the offset and does not round it. Every step is FP32 and
// rounded by itself, except that the sums Q·K[j], Σ p and R are float64 and rounded once:
// of codes they are exact, so any order gives the twin's. An exponential that rounds to
// more than 448 saturates in E4M3.
func (o *AttentionOperands) Attend(dst, lse tensor.Matrix) {
	a := o.Attention
	for b := range a.Batch {
		for h := range a.Heads {
			for i := 0; i < a.Queries; i += a.Format.Tile() {
				o.attendTile(dst, lse, b, h, i, min(i+a.Format.Tile(), a.Queries))
			}
		}
	}
}

// attendTile computes the queries [i, end) of head h of sequence b.
func (o *AttentionOperands) attendTile(dst, lse tensor.Matrix, b, h, i, end int) {
	a, d := o.Attention, o.Attention.HeadDim
	g := h / (a.Heads / a.KVHeads)
	rows := make([]*softmaxRow, end-i)
	for n := range rows {
		rows[n] = newSoftmaxRow(a)
	}
	for j := 0; j < a.Keys; j += kernels.KeyTile {
		jEnd := min(j+kernels.KeyTile, a.Keys)
		if !a.Touches(b, h, i, end, j, jEnd) {
			continue
		}
		values := o.V.RowRange(b*a.Keys+j, b*a.Keys+jEnd).ColRange(g*d, (g+1)*d)
		for n, row := range rows {
			scores, seen := row.p[:jEnd-j], false
			for at := range scores {
				scores[at] = float32(math.Inf(-1))
				if a.Sees(b, h, i+n, j+at) {
					scores[at], seen = o.score(b, h, i+n, j+at), true
				}
			}
			if seen {
				row.add(scores, values)
			}
		}
	}
	for n, row := range rows {
		at := b*a.Queries + i + n
		out := dst.Row(at)[h*d : (h+1)*d]
		log := row.finish(out, o.VScales.Row(b)[g*d:(g+1)*d], o.VMeans.Row(b)[g*d:(g+1)*d])
		if lse.Cols > 0 {
			lse.Row(at)[h] = float32(log + float64(o.Shift.Row(at)[h]))
		}
	}
}

// score is t[j], in units of log 2.
func (o *AttentionOperands) score(b, h, i, j int) float32 {
	a, d := o.Attention, o.Attention.HeadDim
	g := h / (a.Heads / a.KVHeads)
	query, key := b*a.Queries+i, b*a.Keys+j
	s := float32(dot(o.Q.Row(query)[h*d:(h+1)*d], o.K.Row(key)[g*d:(g+1)*d]))
	s = float32(s * float32(o.QScales.Row(query)[h]*o.KScales.Row(key)[g]))
	if o.DeltaS.Rows > 0 {
		s += o.DeltaS.Row((b*smoothBlocks(a)+i/kernels.SmoothBlock)*a.Heads + h)[j]
	}
	return float32(s * float32(float64(a.Scale)*math.Log2E))
}
