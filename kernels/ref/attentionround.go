package ref

import (
	"math"

	"quantize/kernels"
	"quantize/tensor"
)

// minScale is the floor of every dynamic scale, the smallest normal FP32: a group of
// zeros has codes 0, not 0/0.
const minScale = 0x1p-126

// roundScores replaces queries and keys by codes, with a scale for each group of tokens.
func (o *AttentionOperands) roundScores() {
	a := o.Attention
	if a.Format.Mode == kernels.AttentionBF16 {
		return
	}
	for b := range a.Batch {
		from, to := b*a.Queries, (b+1)*a.Queries
		roundGroups(o.Q.RowRange(from, to), o.QScales.RowRange(from, to), a, a.Format.QueryGroup, a.Format.QueryGroups(a.Queries))
		from, to = b*a.Keys, (b+1)*a.Keys
		roundGroups(o.K.RowRange(from, to), o.KScales.RowRange(from, to), a, a.Format.KeyGroup, a.Format.KeyGroups(a.Keys))
	}
}

// roundGroups rounds one sequence. Token n of a head is in group(n) of the head's groups.
func roundGroups(x, scales tensor.Matrix, a kernels.Attention, group func(int) int, groups int) {
	largest, code := codesOf(a.Format.Mode)
	d := a.HeadDim
	for h := range scales.Cols {
		scale := make([]float32, groups)
		for n := range x.Rows {
			for _, v := range x.Row(n)[h*d : (h+1)*d] {
				scale[group(n)] = max(scale[group(n)], float32(math.Abs(float64(v)))) // NaN stays
			}
		}
		for g, top := range scale {
			scale[g] = scaleOf(top, largest)
		}
		for n := range x.Rows {
			s := scale[group(n)]
			scales.Row(n)[h] = s
			encode(x.Row(n)[h*d:(h+1)*d], s, code)
		}
	}
}

// roundValues replaces values by E4M3 codes, with a scale for each sequence, KV head and
// channel.
func (o *AttentionOperands) roundValues() {
	a := o.Attention
	if a.Format.Mode == kernels.AttentionBF16 {
		return
	}
	for b := range a.Batch {
		x := o.V.RowRange(b*a.Keys, (b+1)*a.Keys)
		for c := range x.Cols {
			var top float32
			for j := range x.Rows {
				top = max(top, float32(math.Abs(float64(x.Row(j)[c]))))
			}
			s := scaleOf(top, tensor.MaxE4M3)
			o.VScales.Row(b)[c] = s
			for j := range x.Rows {
				encode(x.Row(j)[c:c+1], s, tensor.RoundE4M3)
			}
		}
	}
}

// codesOf returns the largest code of a mode and the rounding to a code.
func codesOf(mode kernels.AttentionMode) (largest float32, code func(float32) float32) {
	switch mode {
	case kernels.AttentionInt8:
		largest = 127
	case kernels.AttentionInt4:
		largest = 7
	default:
		return tensor.MaxE4M3, tensor.RoundE4M3
	}
	return largest, func(x float32) float32 {
		return min(max(float32(math.RoundToEven(float64(x))), -largest), largest)
	}
}

// scaleOf is the scale of a group whose largest magnitude is top.
func scaleOf(top, largest float32) float32 {
	if !(top <= math.MaxFloat32) {
		return float32(math.NaN())
	}
	return max(top/largest, minScale)
}

// encode multiplies by the reciprocal, as a kernel does: a division costs it ten times as
// much, and only ties fall to another side.
func encode(x []float32, s float32, code func(float32) float32) {
	if s != s {
		clear(x)
		return
	}
	inverse := 1 / s
	for i, v := range x {
		x[i] = code(v * inverse)
	}
}
