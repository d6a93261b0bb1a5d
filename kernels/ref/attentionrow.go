package ref

import (
	"math"

	"quantize/kernels"
	"quantize/tensor"
)

// softmaxRow is the online softmax of one query: see [AttentionOperands.Attend].
type softmaxRow struct {
	m, l   float32 // maximum of t, and Σ p relative to it
	offset float32 // added to exponents: log2 of the probability 1
	p8     bool    // probabilities are rounded to E4M3 before they meet a value
	o      []float32
	p      []float32 // room for a tile's
	r      []float64 // and for its product with values
}

func newSoftmaxRow(a kernels.Attention) *softmaxRow {
	row := &softmaxRow{
		m: float32(math.Inf(-1)), o: make([]float32, a.HeadDim),
		p: make([]float32, kernels.KeyTile), r: make([]float64, a.HeadDim),
	}
	if a.Format.Mode != kernels.AttentionBF16 {
		row.p8, row.offset = true, float32(math.Log2(tensor.MaxE4M3))
	}
	return row
}

// add takes one tile: t, -Inf where a key is not seen, and its values, a row a key. It
// overwrites t.
func (s *softmaxRow) add(t []float32, values tensor.Matrix) {
	top := s.m
	for _, x := range t {
		top = max(top, x) // NaN stays
	}
	if math.IsInf(float64(top), -1) {
		return // every score underflowed to -Inf
	}
	alpha := exp2(s.m - top)
	sum := 0.0
	clear(s.r)
	for j, x := range t {
		if math.IsInf(float64(x), -1) {
			continue
		}
		p := exp2(x - top + s.offset)
		sum += float64(p)
		if s.p8 {
			p = tensor.RoundE4M3(p)
		}
		for c, v := range values.Row(j) {
			s.r[c] += float64(p) * float64(v)
		}
	}
	s.m, s.l = top, float32(alpha*s.l)+float32(sum)
	for c, r := range s.r {
		s.o[c] = float32(alpha*s.o[c]) + float32(r)
	}
}

// finish writes the output and returns the natural logarithm of the denominator.
func (s *softmaxRow) finish(dst, scales, means []float32) float64 {
	if math.IsInf(float64(s.m), -1) {
		clear(dst)
		return math.Inf(-1)
	}
	for c, o := range s.o {
		dst[c] = float32(float32(o/s.l)*scales[c]) + means[c]
	}
	return (float64(s.m) + math.Log2(float64(s.l)) - float64(s.offset)) * math.Ln2
}

func exp2(x float32) float32 { return float32(math.Exp2(float64(x))) }
