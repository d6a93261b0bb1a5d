package cpu

import (
	"math"

	"quantize/model"
	"quantize/tensor"
)

var _ model.Elementwise = (*Compute)(nil)

// share is the number of elements of one elementwise task: enough to pay for
// its start, and it stays in the first-level cache.
const share = 1 << 14

// rowwise calls do for every row, several rows a task.
func (c *Compute) rowwise(rows, cols int, do func(i int)) {
	height := max(1, share/max(1, cols))
	parallel(c.workers, (rows+height-1)/height, func(_, task int) {
		for i := task * height; i < min(rows, (task+1)*height); i++ {
			do(i)
		}
	})
}

// RMSNorm writes weight * x / sqrt(mean(x²) + eps), the mean over each row;
// len(weight) = x.Cols. dst may be x.
func (c *Compute) RMSNorm(dst, x tensor.Matrix, weight []float32, eps float32) {
	switch {
	case dst.Rows != x.Rows || dst.Cols != x.Cols:
		panic("cpu: shapes of dst and x differ")
	case len(weight) != x.Cols:
		panic("cpu: length of weight is not the columns of x")
	}
	kern, n := c.kern, x.Cols
	whole := n / kern.lanes * kern.lanes
	c.rowwise(x.Rows, n, func(i int) {
		in, out := x.Row(i), dst.Row(i)
		sum := kern.sumSquares(pointer(in, 0), whole)
		for _, v := range in[whole:] {
			sum += v * v
		}
		factor := float32(1 / math.Sqrt(float64(sum)/float64(n)+float64(eps)))
		kern.normMul(pointer(out, 0), pointer(in, 0), pointer(weight, 0), whole, factor)
		for j := whole; j < n; j++ {
			out[j] = weight[j] * (in[j] * factor)
		}
	})
}

// SiLUMul writes gate/(1+exp(-gate)) * up. dst may be gate or up. Where |gate|
// exceeds 87 the exponential is that of 87.3 or 88.
func (c *Compute) SiLUMul(dst, gate, up tensor.Matrix) {
	if dst.Rows != gate.Rows || dst.Cols != gate.Cols || up.Rows != gate.Rows || up.Cols != gate.Cols {
		panic("cpu: shapes of dst, gate and up differ")
	}
	kern, n := c.kern, gate.Cols
	whole := n / kern.lanes * kern.lanes
	c.rowwise(gate.Rows, n, func(i int) {
		g, u, out := gate.Row(i), up.Row(i), dst.Row(i)
		kern.siluMul(pointer(out, 0), pointer(g, 0), pointer(u, 0), whole)
		if whole < n {
			// The rest goes through the same routine, in a vector of its own.
			var tail [2][maxLanes]float32
			copy(tail[0][:], g[whole:])
			copy(tail[1][:], u[whole:])
			kern.siluMul(&tail[0][0], &tail[0][0], &tail[1][0], kern.lanes)
			copy(out[whole:], tail[0][:])
		}
	})
}

const maxLanes = 16
