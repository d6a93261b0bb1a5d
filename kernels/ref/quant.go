package ref

import (
	"slices"

	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

var _ kernels.Backend = (*Compute)(nil)

// QuantLinear makes the linear that multiplies the stored codes of w by
// arithmetic a, written out in the package comment. A weight whose scheme
// keeps 16-bit activations is multiplied as packer.WeightOnly whatever a says.
// It keeps w, copies bias (N, or nil), and returns kernels.ErrUnsupported for
// what it cannot multiply.
func (*Compute) QuantLinear(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error) {
	a, err := kernels.CheckWeight(w, a, bias)
	if err != nil {
		return nil, err
	}
	n, k := w.Shape()
	l := &quantLinear{n: n, k: k, token: a != packer.WeightOnly, bias: slices.Clone(bias)}
	switch w := w.(type) {
	case *packer.Int4Weight:
		l.operand = int4Operand(w, a)
	case *packer.FP8Weight:
		l.operand = fp8Operand(w)
	}
	return l, nil
}

// operand gives weight (n, k) as value·scale: value is what the tensor core
// multiplies, scale what the epilogue multiplies the sum of row n by.
type operand struct {
	value func(n, k int) float64
	scale func(n int) float64
}

// int4Operand reads group-quantized INT4 under the arithmetic a.
func int4Operand(w *packer.Int4Weight, a packer.Arithmetic) operand {
	groups := w.K / w.GroupSize
	code := func(n, k int) float64 { // word j of a row: k = 8j..8j+7, lowest nibble first
		word := w.Codes[n*(w.K/8)+k/8]
		return float64(int(word>>(4*(k%8))&0xF) - 8)
	}
	if a == packer.WeightOnly {
		return operand{
			value: func(n, k int) float64 {
				return code(n, k) * float64(tensor.BF16Value(w.Scales[n*groups+k/w.GroupSize]))
			},
			scale: func(int) float64 { return 1 },
		}
	}
	chans, s8 := w.Split()
	eighth := func(n, k int) float64 { // e4m3(s8/8)
		return e4m3(float64(tensor.E4M3Value(s8[n*groups+k/w.GroupSize])) / 8)
	}
	o := operand{scale: func(n int) float64 { return float64(chans[n]) }}
	if a == packer.LUT {
		o.value = func(n, k int) float64 { return 8 * e4m3(code(n, k)*eighth(n, k)) }
	} else {
		o.value = func(n, k int) float64 { return code(n, k) * (8 * eighth(n, k)) }
	}
	return o
}

// fp8Operand reads per-channel E4M3; all arithmetics form the same product.
func fp8Operand(w *packer.FP8Weight) operand {
	return operand{
		value: func(n, k int) float64 { return float64(tensor.E4M3Value(w.Codes[n*w.K+k])) },
		scale: func(n int) float64 { return float64(w.Scales[n]) },
	}
}

// e4m3 rounds v, exact in FP32, to the nearest E4M3 value, saturating.
func e4m3(v float64) float64 {
	return float64(tensor.E4M3Value(tensor.E4M3(float32(v))))
}

type quantLinear struct {
	operand
	n, k  int
	token bool // activations are rounded per token
	bias  []float32
}

func (l *quantLinear) Shape() (n, k int) { return l.n, l.k }

func (l *quantLinear) Forward(dst, x tensor.Matrix) {
	checkForward(dst, x, l.n, l.k)
	codes := make([]uint8, l.k)
	values := make([]float64, l.k)
	for m := range x.Rows {
		a := 1.0
		if l.token {
			a = float64(QuantizeToken(codes, x.Row(m)))
		}
		for k, v := range x.Row(m) {
			values[k] = float64(v)
			if l.token {
				values[k] = float64(tensor.E4M3Value(codes[k]))
			}
		}
		y := dst.Row(m)
		for n := range y {
			sum := 0.0
			for k, v := range values {
				sum += v * l.value(n, k)
			}
			y[n] = float32(a*l.scale(n)*sum + at(l.bias, n))
		}
	}
}
