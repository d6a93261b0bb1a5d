package ref

import (
	"slices"

	"quantize/model"
	"quantize/tensor"
)

// Compute implements model.Compute and kernels.Backend. It holds no state.
type Compute struct{}

var _ model.Compute = (*Compute)(nil)

// New returns the plain Go backend.
func New() *Compute { return &Compute{} }

// Linear copies weight (N, K) and bias (N, or nil). Its Forward computes
// y[m,n] = Σ_k x[m,k]·w[n,k] + b[n] in float64.
func (*Compute) Linear(weight tensor.Matrix, bias []float32) model.Linear {
	if bias != nil && len(bias) != weight.Rows {
		panic(badBias)
	}
	w := tensor.NewMatrix(weight.Rows, weight.Cols)
	for n := range w.Rows {
		copy(w.Row(n), weight.Row(n))
	}
	return &linear{weight: w, bias: slices.Clone(bias)}
}

type linear struct {
	weight tensor.Matrix
	bias   []float32 // nil for none
}

func (l *linear) Shape() (n, k int) { return l.weight.Rows, l.weight.Cols }

func (l *linear) Forward(dst, x tensor.Matrix) {
	checkForward(dst, x, l.weight.Rows, l.weight.Cols)
	for m := range x.Rows {
		row, y := x.Row(m), dst.Row(m)
		for n := range y {
			sum := 0.0
			for k, w := range l.weight.Row(n) {
				sum += float64(row[k]) * float64(w)
			}
			y[n] = float32(sum + at(l.bias, n))
		}
	}
}

// at is b[n], or 0 where there is no bias.
func at(b []float32, n int) float64 {
	if b == nil {
		return 0
	}
	return float64(b[n])
}

const (
	badBias  = "ref: bias length is not N"
	badX     = "ref: x is not (M, K)"
	badDst   = "ref: dst is not (M, N)"
	badQKV   = "ref: q, k, v and dst shapes do not fit the attention"
	badCodes = "ref: codes and x differ in length"
	badNorm  = "ref: dst, x and weight of RMSNorm differ in shape"
	badGate  = "ref: dst, gate and up of SiLUMul differ in shape"
)

func checkForward(dst, x tensor.Matrix, n, k int) {
	if x.Cols != k {
		panic(badX)
	}
	if dst.Rows != x.Rows || dst.Cols != n {
		panic(badDst)
	}
}
