package ref

import (
	"math"

	"quantize/kernels"
	"quantize/tensor"
)

// ExactAttention computes one row of a's attention in float64, whatever its format:
// query i of head h of sequence b, over the keys that it sees,
//
//	s[j] = scale·Σ_c q[c]·k[j,c]        lse = ln Σ_j exp(s[j])        o[c] = Σ_j exp(s[j] - lse)·v[j,c]
//
// o has HeadDim elements. A query that sees nothing gives o 0 and lse -Inf. Shapes are
// those of kernels.Attender, and [kernels.Attention.Check] must have passed them.
func ExactAttention(o []float64, q, k, v tensor.Matrix, a kernels.Attention, b, h, i int) (lse float64) {
	d, g := a.HeadDim, h/(a.Heads/a.KVHeads)
	query := q.Row(b*a.Queries + i)[h*d : (h+1)*d]
	return ExactSoftmax(o, a, b, h, i,
		func(j int) float64 {
			return float64(a.Scale) * dot(query, k.Row(b*a.Keys + j)[g*d:(g+1)*d])
		},
		func(j int) []float32 { return v.Row(b*a.Keys + j)[g*d : (g+1)*d] })
}

// ExactSoftmax is [ExactAttention] of any scores s[j] and values v[j].
func ExactSoftmax(o []float64, a kernels.Attention, b, h, i int, score func(j int) float64, value func(j int) []float32) (lse float64) {
	from, to := a.KeyRange(i)
	scores := make([]float64, 0, to-from)
	keys := make([]int, 0, to-from)
	top := math.Inf(-1)
	for j := from; j < to; j++ {
		if a.Sees(b, h, i, j) {
			s := score(j)
			scores, keys, top = append(scores, s), append(keys, j), math.Max(top, s)
		}
	}
	clear(o)
	if len(keys) == 0 {
		return math.Inf(-1)
	}
	sum := 0.0
	for n, s := range scores {
		p := math.Exp(s - top)
		sum += p
		for c, v := range value(keys[n]) {
			o[c] += p * float64(v)
		}
	}
	for c := range o {
		o[c] /= sum
	}
	return top + math.Log(sum)
}
