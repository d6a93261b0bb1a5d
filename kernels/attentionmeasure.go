package kernels

import (
	"math"

	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// AttentionMeter measures what modes of attention cost each layer of a model, on the
// queries, keys and values that it is shown. It is for one forward pass at a time.
type AttentionMeter struct {
	compute    PlanCompute
	candidates []AttentionMode
	sums       [][][]outputSums // by layer, candidate and head
	out        tensor.Matrix    // a candidate's output
}

// NewAttentionMeter makes a meter of candidates for a model. bf16 need not be among them:
// it is what is left where none keeps the budget.
func NewAttentionMeter(cfg *model.Config, c PlanCompute, candidates []AttentionMode) *AttentionMeter {
	m := &AttentionMeter{compute: c, candidates: candidates, sums: make([][][]outputSums, cfg.Layers)}
	for layer := range m.sums {
		m.sums[layer] = make([][]outputSums, len(candidates))
		for i := range candidates {
			m.sums[layer][i] = make([]outputSums, cfg.Heads)
		}
	}
	return m
}

// Attend is a model.Runtime.Attend: it computes exact attention into dst, so that every
// layer is measured alone, and compares each candidate with that.
func (m *AttentionMeter) Attend(layer int, dst, q, k, v tensor.Matrix, a model.Attention) {
	m.compute.Attend(dst, q, k, v, a)
	if n := q.Rows * q.Cols; cap(m.out.Data) < n {
		m.out = tensor.NewMatrix(q.Rows, q.Cols)
	}
	m.out = tensor.MatrixOf(q.Rows, q.Cols, m.out.Data[:q.Rows*q.Cols])
	for i, mode := range m.candidates {
		attendIn(m.compute, mode, m.out, q, k, v, a)
		for h := range a.Heads {
			s := &m.sums[layer][i][h]
			for row := range q.Rows {
				s.add(m.out.Row(row)[h*a.HeadDim:(h+1)*a.HeadDim], dst.Row(row)[h*a.HeadDim:(h+1)*a.HeadDim])
			}
		}
	}
}

// Measured gives the errors of each layer's candidates, in their order.
func (m *AttentionMeter) Measured() [][]packer.MeasuredAttention {
	measured := make([][]packer.MeasuredAttention, len(m.sums))
	for layer, candidates := range m.sums {
		for i, heads := range candidates {
			measured[layer] = append(measured[layer], packer.MeasuredAttention{Mode: m.candidates[i], AttentionError: errorOf(heads)})
		}
	}
	return measured
}

// outputSums are the sums of packer.AttentionError over the outputs of one head, in float64.
type outputSums struct{ dot, square, exactSquare, off, exact float64 }

func (s *outputSums) add(got, want []float32) {
	for c, w := range want {
		g, w := float64(got[c]), float64(w)
		s.dot += g * w
		s.square += g * g
		s.exactSquare += w * w
		s.off += math.Abs(g - w)
		s.exact += math.Abs(w)
	}
}

func (s *outputSums) plus(o outputSums) {
	s.dot += o.dot
	s.square += o.square
	s.exactSquare += o.exactSquare
	s.off += o.off
	s.exact += o.exact
}

// errors are cosine and relative L1. Outputs that are all zeros, and are so in both,
// are equal; what has no direction or is not finite has nothing in common.
func (s *outputSums) errors() (cosine, relativeL1 float64) {
	if s.off == 0 {
		return 1, 0
	}
	cosine, relativeL1 = s.dot/math.Sqrt(s.square*s.exactSquare), s.off/s.exact
	if !(math.Abs(cosine) <= 2 && relativeL1 <= math.MaxFloat64) { // 2: roundings beyond 1
		return 0, 1
	}
	return min(max(cosine, -1), 1), relativeL1
}

func errorOf(heads []outputSums) packer.AttentionError {
	var all outputSums
	e := packer.AttentionError{WorstCosine: 1}
	for _, h := range heads {
		all.plus(h)
		cosine, l1 := h.errors()
		e.WorstCosine, e.WorstRelativeL1 = min(e.WorstCosine, decimals(cosine)), max(e.WorstRelativeL1, decimals(l1))
	}
	cosine, l1 := all.errors()
	e.Cosine, e.RelativeL1 = decimals(cosine), decimals(l1)
	return e
}

// decimals keeps six of them: what is chosen by is what is written, and the last bits of
// a sum, which differ between instruction sets, do not choose.
func decimals(x float64) float64 { return math.Round(x*1e6) / 1e6 }
