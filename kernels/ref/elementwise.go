package ref

import (
	"math"

	"quantize/model"
	"quantize/tensor"
)

var _ model.Elementwise = (*Compute)(nil)

// RMSNorm writes weight[j]·x[i,j]/sqrt(mean_j x[i,j]² + eps), in float64. dst
// may be x.
func (*Compute) RMSNorm(dst, x tensor.Matrix, weight []float32, eps float32) {
	if dst.Rows != x.Rows || dst.Cols != x.Cols || len(weight) != x.Cols {
		panic(badNorm)
	}
	for i := range x.Rows {
		sum := 0.0
		for _, v := range x.Row(i) {
			sum += float64(v) * float64(v)
		}
		scale := 1 / math.Sqrt(sum/float64(x.Cols)+float64(eps))
		for j, v := range x.Row(i) {
			dst.Row(i)[j] = float32(float64(weight[j]) * float64(v) * scale)
		}
	}
}

// SiLUMul writes gate/(1+exp(-gate))·up, in float64. dst may be gate or up.
func (*Compute) SiLUMul(dst, gate, up tensor.Matrix) {
	if dst.Rows != gate.Rows || dst.Cols != gate.Cols || up.Rows != gate.Rows || up.Cols != gate.Cols {
		panic(badGate)
	}
	for i := range gate.Rows {
		for j, g := range gate.Row(i) {
			x := float64(g)
			dst.Row(i)[j] = float32(x / (1 + math.Exp(-x)) * float64(up.Row(i)[j]))
		}
	}
}
