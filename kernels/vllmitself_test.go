package kernels_test

import (
	"testing"

	"quantize/checkpoint"
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// storingBF16 is the mean KL(ours, ours that stores BF16 wherever vLLM does): how near a
// program that does so can be expected to come.
func storingBF16(t *testing.T, r *checkpoint.Reader, c vllmCompute, a packer.Arithmetic, windows [][]int32) float64 {
	t.Helper()
	p := logProbs(t, vllmModel(t, r, c, a), windows)
	q := logProbs(t, vllmModel(t, r, bf16Backend{c}, a), windows)
	sum, rows := 0.0, 0
	for i := range p {
		for row := range p[i].Rows {
			sum += divergence(p[i].Row(row), q[i].Row(row))
			rows++
		}
	}
	return sum / float64(rows)
}

type vllmCompute interface {
	kernels.Backend
	model.Elementwise
}

// bf16Backend rounds to BF16 what linears, norms, SiLU and attention store, and the
// residual stream, which every norm of a block reads.
type bf16Backend struct{ vllmCompute }

func (b bf16Backend) QuantLinear(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error) {
	l, err := b.vllmCompute.QuantLinear(w, a, bias)
	return bf16Linear{l}, err
}

func (b bf16Backend) Linear(w tensor.Matrix, bias []float32) model.Linear {
	return bf16Linear{b.vllmCompute.Linear(w, bias)}
}

func (b bf16Backend) RMSNorm(dst, x tensor.Matrix, weight []float32, eps float32) {
	roundBF16(x)
	b.vllmCompute.RMSNorm(dst, x, weight, eps)
	roundBF16(dst)
}

func (b bf16Backend) SiLUMul(dst, gate, up tensor.Matrix) {
	b.vllmCompute.SiLUMul(dst, gate, up)
	roundBF16(dst)
}

func (b bf16Backend) Attend(dst, q, k, v tensor.Matrix, a model.Attention) {
	roundBF16(q) // rotary embedding has been applied
	roundBF16(k)
	b.vllmCompute.Attend(dst, q, k, v, a)
	roundBF16(dst)
}

type bf16Linear struct{ model.Linear }

func (l bf16Linear) Forward(dst, x tensor.Matrix) {
	l.Linear.Forward(dst, x)
	roundBF16(dst)
}

func roundBF16(m tensor.Matrix) {
	for i := range m.Rows {
		for j, v := range m.Row(i) {
			m.Row(i)[j] = tensor.BF16Value(tensor.BF16Bits(v))
		}
	}
}
