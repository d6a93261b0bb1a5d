package kerneltest

import (
	"fmt"
	"math"
	"testing"

	"quantize/model"
	"quantize/tensor"
)

func runElementwise(t *testing.T, e model.Elementwise) {
	var norm, silu Tally
	number := 0
	for _, s := range [][2]int{{0, 8}, {1, 1}, {1, 7}, {3, 64}, {5, 129}, {2, 896}, {67, 33}} {
		for _, k := range kinds {
			if k.name == "saturated" || k.name == "one infinity" {
				continue // squares beyond FP32
			}
			number++
			r := seeded(number)
			name := fmt.Sprintf("%dx%d %s", s[0], s[1], k.name)
			x, up := filled(r, s[0], s[1], number%3, k), filled(r, s[0], s[1], number%2, k)

			weight := vector(r, s[1])
			dst := newOperand(s[0], s[1], number%4)
			e.RMSNorm(dst.Matrix, x.Matrix, weight, 1e-5)
			x.unchanged(t, name)
			dst.contained(t, name)
			want := normOf(x.Matrix, weight, 1e-5)
			norm.compare(t, "RMSNorm "+name, dst, want)

			gated := newOperand(s[0], s[1], number%5)
			e.SiLUMul(gated.Matrix, x.Matrix, up.Matrix)
			x.unchanged(t, name)
			up.unchanged(t, name)
			gated.contained(t, name)
			wantGated := siluOf(x.Matrix, up.Matrix)
			silu.compare(t, "SiLUMul "+name, gated, wantGated)

			// In place, as the contract allows.
			e.SiLUMul(up.Matrix, x.Matrix, up.Matrix)
			silu.compare(t, "SiLUMul in place "+name, up, wantGated)
			e.RMSNorm(x.Matrix, x.Matrix, weight, 1e-5)
			norm.compare(t, "RMSNorm in place "+name, x, want)
		}
	}
	t.Log("RMSNorm")
	norm.finish(t, nmseElement)
	t.Log("SiLUMul")
	silu.finish(t, nmseElement)
}

// normOf is RMSNorm; the sum of squares has no cancellation, and its square
// root halves its relative error.
func normOf(x tensor.Matrix, weight []float32, eps float32) *Result {
	out := newResult(x.Rows, x.Cols)
	for i := range x.Rows {
		sum := 0.0
		for _, v := range x.Row(i) {
			sum += float64(v) * float64(v)
		}
		scale := 1 / math.Sqrt(sum/float64(x.Cols)+float64(eps))
		for j, v := range x.Row(i) {
			y := float64(weight[j]) * float64(v) * scale
			out.set(i, j, y, (float64(x.Cols)/2+6)*u*math.Abs(y)+tiny*(1+math.Abs(float64(weight[j]))+scale))
		}
	}
	return out
}

// siluOf is gate·up/(1+exp(-gate)); the exponential's argument carries a
// rounding, so its relative error grows with |gate|. Below exp(-87) FP32
// underflows: an absolute error of 2^-110·|up| is allowed there.
func siluOf(gate, up tensor.Matrix) *Result {
	out := newResult(gate.Rows, gate.Cols)
	for i := range gate.Rows {
		for j, g := range gate.Row(i) {
			x := float64(up.Row(i)[j])
			y := float64(g) / (1 + math.Exp(-float64(g))) * x
			out.set(i, j, y, (min(math.Abs(float64(g)), 128)+expRoundings+4)*u*math.Abs(y)+0x1p-110*math.Abs(x)+tiny)
		}
	}
	return out
}
