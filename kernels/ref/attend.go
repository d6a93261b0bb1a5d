package ref

import (
	"math"

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
// over the keys j <= i, and j > i-Window when Window > 0. Nothing may alias.
func (*Compute) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	checkAttend(dst, q, k, v, a)
	d := a.HeadDim
	p := make([]float64, q.Rows)
	o := make([]float64, d)
	for h := range a.Heads {
		kv := h / (a.Heads / a.KVHeads)
		for i := range q.Rows {
			first := 0
			if a.Window > 0 {
				first = max(0, i-a.Window+1)
			}
			query := q.Row(i)[h*d : (h+1)*d]
			top := math.Inf(-1)
			for j := first; j <= i; j++ {
				p[j] = float64(a.Scale) * dot(query, k.Row(j)[kv*d:(kv+1)*d])
				top = math.Max(top, p[j])
			}
			sum := 0.0
			for j := first; j <= i; j++ {
				p[j] = math.Exp(p[j] - top)
				sum += p[j]
			}
			clear(o)
			for j := first; j <= i; j++ {
				for c, value := range v.Row(j)[kv*d : (kv+1)*d] {
					o[c] += p[j] * float64(value)
				}
			}
			for c, value := range o {
				dst.Row(i)[h*d+c] = float32(value / sum)
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
