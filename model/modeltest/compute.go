package modeltest

import (
	"math"
	"slices"

	"quantize/model"
	"quantize/tensor"
)

// Compute returns an arithmetic that sums in float64 and rounds once, at the
// end of each product: slow, plain, and as accurate as FP32 activations allow.
func Compute() model.Compute { return compute{} }

type compute struct{}

type linear struct {
	weight tensor.Matrix
	bias   []float32
}

func (compute) Linear(weight tensor.Matrix, bias []float32) model.Linear {
	l := &linear{tensor.NewMatrix(weight.Rows, weight.Cols), slices.Clone(bias)}
	for i := range weight.Rows {
		copy(l.weight.Row(i), weight.Row(i))
	}
	return l
}

func (l *linear) Shape() (n, k int) { return l.weight.Rows, l.weight.Cols }

func (l *linear) Forward(dst, x tensor.Matrix) {
	for m := range x.Rows {
		in, out := x.Row(m), dst.Row(m)
		for n := range out {
			sum := dot(in, l.weight.Row(n))
			if l.bias != nil {
				sum += float64(l.bias[n])
			}
			out[n] = float32(sum)
		}
	}
}

func (compute) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	d := a.HeadDim
	p := make([]float64, q.Rows)
	for h := range a.Heads {
		g := h / (a.Heads / a.KVHeads)
		for i := range q.Rows {
			from := 0
			if a.Window > 0 {
				from = max(0, i-a.Window+1)
			}
			for j := from; j <= i; j++ {
				p[j] = dot(q.Row(i)[h*d:(h+1)*d], k.Row(j)[g*d:(g+1)*d]) * float64(a.Scale)
			}
			softmax(p[from : i+1])
			for c := range d {
				var sum float64
				for j := from; j <= i; j++ {
					sum += p[j] * float64(v.Row(j)[g*d+c])
				}
				dst.Row(i)[h*d+c] = float32(sum)
			}
		}
	}
}

func dot[F float32 | float64](a, b []F) float64 {
	var sum float64
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

func softmax(p []float64) {
	top, sum := slices.Max(p), 0.0
	for i, v := range p {
		p[i] = math.Exp(v - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
}
