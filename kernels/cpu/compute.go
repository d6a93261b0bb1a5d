package cpu

import (
	"runtime"

	"quantize/model"
	"quantize/tensor"
)

// Compute is the fast [model.Compute] of this processor. It is safe for
// concurrent use and its results do not depend on the number of workers.
type Compute struct {
	kern    *kernel
	workers int
}

var _ model.Compute = (*Compute)(nil)

// New returns a Compute for the instruction set that [Variable] names, or the
// best available one when it is not set or cannot be used ([FromEnv] gives that
// error), with one worker for each processor of GOMAXPROCS.
func New() *Compute {
	isa, err := FromEnv()
	if err != nil {
		isa, _ = Select("")
	}
	return NewISA(isa, 0)
}

// NewISA returns a Compute for an available instruction set. With workers 0 it
// uses GOMAXPROCS.
func NewISA(isa ISA, workers int) *Compute {
	kern := kernelFor(isa)
	if kern == nil {
		panic("cpu: instruction set not available")
	}
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	return &Compute{kern: kern, workers: workers}
}

// ISA returns the instruction set in use.
func (c *Compute) ISA() ISA { return c.kern.isa }

// Linear packs a weight (N, K) and an optional bias of length N. Both may be
// reused by the caller afterwards.
func (c *Compute) Linear(weight tensor.Matrix, bias []float32) model.Linear {
	return c.PackLinear(weight.Rows, weight.Cols, func(i int, dst []float32) { copy(dst, weight.Row(i)) }, bias)
}

// PackLinear is [Compute.Linear] for a weight (n, k) that exists row by row:
// row(i, dst) writes row i into dst, of length k. row is called once for each i,
// from several goroutines, so that a BF16 or quantized weight needs no FP32 copy.
func (c *Compute) PackLinear(n, k int, row func(i int, dst []float32), bias []float32) model.Linear {
	if bias != nil && len(bias) != n {
		panic("cpu: length of bias is not N")
	}
	if c.kern.parts != nil {
		return c.partLinear(n, k, row, bias)
	}
	w := newPacked(c.kern, n, k)
	c.pack(w, row)
	copy(w.bias, bias)
	return &linear{w: w, workers: c.workers}
}

func (c *Compute) pack(w *packed, row func(i int, dst []float32)) {
	parallel(c.workers, w.panels(), func(_, panel int) {
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		s.rows = grow(s.rows, together*w.k)
		end := min(w.n, (panel+1)*w.kern.cols)
		for j := panel * w.kern.cols; j < end; j += together {
			count := min(together, end-j)
			for r := range count {
				row(j+r, s.rows[r*w.k:(r+1)*w.k])
			}
			w.setRows(j, count, s.rows, w.k)
		}
	})
}

// MatMulT computes dst (M, N) = a (M, K) · b (N, K)ᵀ, packing b first. dst must
// not overlap a or b.
func (c *Compute) MatMulT(dst, a, b tensor.Matrix) {
	c.PackLinear(b.Rows, b.Cols, func(i int, dst []float32) { copy(dst, b.Row(i)) }, nil).Forward(dst, a)
}

// linear is a packed weight with its bias.
type linear struct {
	w       *packed
	workers int
}

// Shape returns N and K.
func (l *linear) Shape() (n, k int) { return l.w.n, l.w.k }

// Forward writes x (M, K) · Wᵀ + bias into dst (M, N).
func (l *linear) Forward(dst, x tensor.Matrix) {
	checkShapes(dst, x, l.w.n, l.w.k)
	multiply(l.workers, dst, x, l.w)
}

func checkShapes(dst, x tensor.Matrix, n, k int) {
	switch {
	case x.Cols != k:
		panic("cpu: columns of x are not K")
	case dst.Cols != n:
		panic("cpu: columns of dst are not N")
	case dst.Rows != x.Rows:
		panic("cpu: rows of dst and x differ")
	}
}
