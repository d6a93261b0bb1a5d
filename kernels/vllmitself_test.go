package kernels_test

import (
	"testing"

	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// toItself is the mean KL(p, q) of two forward passes of ours over all positions of the
// windows. Of q storing what vLLM stores: how near a program that does so can be expected to come.
func toItself(t *testing.T, p, q *model.Model, windows [][]int32) float64 {
	t.Helper()
	ps, qs := logProbs(t, p, windows), logProbs(t, q, windows)
	sum, rows := 0.0, 0
	for i := range windows {
		a, b := ps(i), qs(i)
		for row := range a.Rows {
			sum += divergence(a.Row(row), b.Row(row))
			rows++
		}
	}
	return sum / float64(rows)
}

// vllmType is a type that vLLM stores activations as.
type vllmType struct {
	of   func(float32) float32 // the nearest value
	unit float64               // unit roundoff
}

var vllmTypes = map[string]vllmType{
	"bfloat16": {func(x float32) float32 { return tensor.BF16Value(tensor.BF16Bits(x)) }, 0x1p-8},
	"float16":  {func(x float32) float32 { return tensor.F16Value(tensor.F16Bits(x)) }, 0x1p-11},
}

func (v vllmType) round(m tensor.Matrix) {
	for i := range m.Rows {
		row := m.Row(i)
		for j, x := range row {
			row[j] = v.of(x)
		}
	}
}

type vllmCompute interface {
	kernels.Backend
	model.Elementwise
}

// ofType multiplies what kernels of 16 by 16 bits do: weights of that type. The product of
// code and scale is rounded to it.
type ofType struct {
	vllmCompute
	vllmType
}

func (b ofType) QuantLinear(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error) {
	a, err := kernels.CheckWeight(w, a, bias)
	if err != nil {
		return nil, err
	}
	if a != packer.WeightOnly {
		return b.vllmCompute.QuantLinear(w, a, bias)
	}
	dense := tensor.NewMatrix(w.Shape())
	w.Decode(dense, a)
	b.round(dense)
	return b.vllmCompute.Linear(dense, bias), nil
}

func (b ofType) Linear(w tensor.Matrix, bias []float32) model.Linear {
	rounded := tensor.NewMatrix(w.Rows, w.Cols)
	for i := range w.Rows {
		copy(rounded.Row(i), w.Row(i))
	}
	b.round(rounded)
	return b.vllmCompute.Linear(rounded, bias)
}

// storing also rounds what linears, norms, SiLU and attention store, and the residual
// stream, which every norm of a block reads.
type storing struct{ ofType }

func (b storing) QuantLinear(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error) {
	l, err := b.ofType.QuantLinear(w, a, bias)
	return storingLinear{l, b.vllmType}, err
}

func (b storing) Linear(w tensor.Matrix, bias []float32) model.Linear {
	return storingLinear{b.ofType.Linear(w, bias), b.vllmType}
}

func (b storing) RMSNorm(dst, x tensor.Matrix, weight []float32, eps float32) {
	b.round(x)
	b.vllmCompute.RMSNorm(dst, x, weight, eps)
	b.round(dst)
}

func (b storing) SiLUMul(dst, gate, up tensor.Matrix) {
	b.vllmCompute.SiLUMul(dst, gate, up)
	b.round(dst)
}

func (b storing) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	b.round(q) // rotary embedding has been applied
	b.round(k)
	b.vllmCompute.Attend(dst, q, k, v, a)
	b.round(dst)
}

type storingLinear struct {
	model.Linear
	vllmType
}

func (l storingLinear) Forward(dst, x tensor.Matrix) {
	l.Linear.Forward(dst, x)
	l.round(dst)
}
