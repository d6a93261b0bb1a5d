package cpu

import (
	"math"

	"quantize/model"
	"quantize/tensor"
)

// Attend computes causal attention of one sequence of M tokens: for query head
// h, reading KV head h/(Heads/KVHeads), and row i
//
//	dst[i] = sum over visible j of softmax_j(Scale·q[i]·k[j]) · v[j]
//
// q and dst are (M, Heads*HeadDim), k and v (M, KVHeads*HeadDim). dst must not
// overlap the others. A task is a head and a block of queries; it walks the
// blocks of keys that the queries can see and keeps, per row, the largest
// score, the sum and the unscaled result (Dao et al. 2022, arXiv 2205.14135,
// algorithm 1; Milakov and Gimelshein 2018, arXiv 1805.02867):
//
//	for each block of keys
//	  S = Scale·q · kᵀ                        panels that no row sees are left out
//	  for each row: top' = max(top, S);  P = exp(S - top');
//	                sum = sum·exp(top - top') + ΣP;  O *= exp(top - top')
//	  O += P · v                              rows and keys that are masked are left out
//	dst = O / sum
//
// A score is a product of HeadDim terms in FP32 and its exponential has an
// error of one ULP; results do not depend on the number of workers.
func (c *Compute) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	checkAttend(dst, q, k, v, a)
	if q.Rows == 0 {
		return
	}
	s := newAttention(c, q.Rows, a)
	defer attentions.Put(s)
	if !s.pack(c.workers, k, v) {
		attendPlain(c.workers, dst, q, k, v, a)
		return
	}
	// The last queries see the most keys: they start first, so that no worker
	// is left with a large task at the end.
	blocks := (q.Rows + s.height - 1) / s.height
	parallel(c.workers, blocks*a.Heads, func(_, task int) {
		h, from := task%a.Heads, (blocks-1-task/a.Heads)*s.height
		to := min(from+s.height, q.Rows)
		columns := func(m tensor.Matrix) tensor.Matrix {
			return m.RowRange(from, to).ColRange(h*a.HeadDim, (h+1)*a.HeadDim)
		}
		w := workspaces.Get().(*workspace)
		defer workspaces.Put(w)
		w.queries(s, s.kv[h/(a.Heads/a.KVHeads)], from, columns(dst), columns(q))
	})
}

func checkAttend(dst, q, k, v tensor.Matrix, a model.Attention) {
	switch {
	case a.Heads < 1 || a.KVHeads < 1 || a.HeadDim < 1 || a.Heads%a.KVHeads != 0:
		panic("cpu: KV heads do not divide the heads of an attention")
	case q.Cols != a.Heads*a.HeadDim || dst.Cols != q.Cols:
		panic("cpu: columns of q or dst are not Heads*HeadDim")
	case k.Cols != a.KVHeads*a.HeadDim || v.Cols != k.Cols:
		panic("cpu: columns of k or v are not KVHeads*HeadDim")
	case dst.Rows != q.Rows || k.Rows != q.Rows || v.Rows != q.Rows:
		panic("cpu: rows of dst, q, k and v differ")
	}
}

// attendPlain is for values with an infinity or a NaN: there 0·v is not 0, so
// that rows must stop exactly at the keys they see.
func attendPlain(workers int, dst, q, k, v tensor.Matrix, a model.Attention) {
	d := a.HeadDim
	parallel(workers, a.Heads, func(_, h int) {
		kv := h / (a.Heads / a.KVHeads) * d
		scores := make([]float32, q.Rows)
		for i := range q.Rows {
			first := 0
			if a.Window > 0 {
				first = max(0, i-a.Window+1)
			}
			visible := scores[first : i+1]
			query := q.Row(i)[h*d : (h+1)*d]
			for j := range visible {
				var s float32
				for t, x := range k.Row(first + j)[kv : kv+d] {
					s += query[t] * x
				}
				visible[j] = s * a.Scale
			}
			_, sum := softmax(&visible[0], len(visible), float32(math.Inf(-1)))
			out := dst.Row(i)[h*d : (h+1)*d]
			clear(out)
			for j, p := range visible {
				for t, x := range v.Row(first + j)[kv : kv+d] {
					out[t] += p * x
				}
			}
			scale(&out[0], &out[0], d, 1/sum)
		}
	})
}
