package cpu

import (
	"math"

	"quantize/model"
	"quantize/tensor"
)

// Attend computes causal attention of one sequence.
func (c *Compute) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	d := a.HeadDim
	parallel(c.workers, a.Heads, func(_, h int) {
		g := h / (a.Heads / a.KVHeads)
		p := make([]float32, q.Rows)
		for i := range q.Rows {
			lo := 0
			if a.Window > 0 {
				lo = max(0, i-a.Window+1)
			}
			top := float32(math.Inf(-1))
			for j := lo; j <= i; j++ {
				var s float32
				for t, x := range q.Row(i)[h*d : (h+1)*d] {
					s += x * k.Row(j)[g*d+t]
				}
				p[j] = s * a.Scale
				top = max(top, p[j])
			}
			out := dst.Row(i)[h*d : (h+1)*d]
			clear(out)
			var sum float32
			for j := lo; j <= i; j++ {
				e := float32(math.Exp(float64(p[j] - top)))
				sum += e
				for t, x := range v.Row(j)[g*d : (g+1)*d] {
					out[t] += e * x
				}
			}
			for t := range out {
				out[t] /= sum
			}
		}
	})
}
