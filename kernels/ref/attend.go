package ref

import (
	"quantize/kernels"
	"quantize/model"
	"quantize/tensor"
)

// Attend computes exact causal attention of one sequence of M tokens in
// float64: for query head h and its KV head h/(Heads/KVHeads)
//
//	s[i,j] = scale·Σ_c q[i,c]·k[j,c]
//	p[i,j] = exp(s[i,j] - max_j s[i,j]) / Σ_j exp(s[i,j] - max_j s[i,j])
//	o[i,c] = Σ_j p[i,j]·v[j,c]
//
// over the keys j <= i, and j > i-Window when Window > 0: [ExactAttention], rounded once.
// Nothing may alias.
func (*Compute) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	checkAttend(dst, q, k, v, a)
	d := a.HeadDim
	exact := kernels.Attention{
		Batch: 1, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: d, Queries: q.Rows, Keys: k.Rows,
		Scale: a.Scale, Causal: true, Window: max(a.Window, 0),
	}
	o := make([]float64, d)
	for h := range a.Heads {
		for i := range q.Rows {
			ExactAttention(o, q, k, v, exact, 0, h, i)
			for c, value := range o {
				dst.Row(i)[h*d+c] = float32(value)
			}
		}
	}
}

func dot(x, y []float32) float64 {
	sum := 0.0
	for c, v := range x {
		sum += float64(v) * float64(y[c])
	}
	return sum
}

func checkAttend(dst, q, k, v tensor.Matrix, a model.Attention) {
	n, nkv := a.Heads*a.HeadDim, a.KVHeads*a.HeadDim
	if a.KVHeads < 1 || a.Heads%a.KVHeads != 0 ||
		q.Cols != n || dst.Cols != n || k.Cols != nkv || v.Cols != nkv ||
		dst.Rows != q.Rows || k.Rows != q.Rows || v.Rows != q.Rows {
		panic(badQKV)
	}
}
