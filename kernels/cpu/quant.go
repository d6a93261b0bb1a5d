package cpu

import (
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

var _ kernels.Backend = (*Compute)(nil)

// QuantLinear expands w once into FP32 panels and computes what package ref
// writes out. The row factor is multiplied into the weight and the token scale
// into the rounded activation, so that one FP32 product and its bias are all
// that is left:
//
//	y[m,n] = Σ_k (a[m]·x8[m,k])·(chan[n]·w'[n,k]) + b[n]
//
// With the row factors that package packer writes (4 significant bits) the
// weight stays exact; a[m]·x8[m,k] is rounded once, as transformers rounds it.
// It costs 4 bytes an element; w is not kept. A weight whose scheme keeps 16-bit
// activations is multiplied as packer.WeightOnly whatever a says. What cannot be
// multiplied is kernels.ErrUnsupported.
func (c *Compute) QuantLinear(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error) {
	a, err := kernels.CheckWeight(w, a, bias)
	if err != nil {
		return nil, err
	}
	n, k := w.Shape()
	full := c.PackLinear(n, k, rows(w, a), bias)
	if a == packer.WeightOnly {
		return full, nil
	}
	return &quantLinear{Linear: full, compute: c}, nil
}

// rows returns the function that decodes row i of w.
func rows(w packer.Weight, a packer.Arithmetic) func(i int, dst []float32) {
	switch w := w.(type) {
	case *packer.Int4Weight:
		words, groups := w.K/8, w.K/w.GroupSize
		return func(i int, dst []float32) {
			row := packer.Int4Weight{
				N: 1, K: w.K, GroupSize: w.GroupSize, FP8Activations: w.FP8Activations,
				Codes: w.Codes[i*words : (i+1)*words], Scales: w.Scales[i*groups : (i+1)*groups],
			}
			row.Decode(tensor.MatrixOf(1, w.K, dst), a)
		}
	case *packer.FP8Weight:
		return func(i int, dst []float32) {
			row := packer.FP8Weight{N: 1, K: w.K, Codes: w.Codes[i*w.K : (i+1)*w.K], Scales: w.Scales[i : i+1]}
			row.Decode(tensor.MatrixOf(1, w.K, dst), a)
		}
	}
	panic("cpu: weight passed the check but has no rows")
}

// quantLinear rounds activations per token before an FP32 product.
type quantLinear struct {
	model.Linear
	compute *Compute
}

// tokenBlock is the number of tokens rounded at a time; it bounds the scratch
// memory at tokenBlock·K·4 bytes.
const tokenBlock = 1024

func (l *quantLinear) Forward(dst, x tensor.Matrix) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for from := 0; from < x.Rows; from += tokenBlock {
		to := min(from+tokenBlock, x.Rows)
		s.rows = grow(s.rows, (to-from)*x.Cols)
		x8 := tensor.MatrixOf(to-from, x.Cols, s.rows)
		if parts, ok := l.Linear.(*partedLinear); ok { // E4M3 is BF16, its product with a scale is not
			s.scale = grow(s.scale, to-from)
			l.compute.roundTokens(x8, x.RowRange(from, to), s.scale)
			parts.scaled(dst.RowRange(from, to), x8, s.scale)
			continue
		}
		l.compute.RoundTokens(x8, x.RowRange(from, to))
		l.Linear.Forward(dst.RowRange(from, to), x8)
	}
}
