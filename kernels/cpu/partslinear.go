package cpu

import (
	"quantize/model"
	"quantize/tensor"
)

// partedLinear is a weight in BF16 parts with its bias: one part, 2 bytes an
// element, where the weight is BF16, three where it is any FP32.
type partedLinear struct {
	w       *parted
	workers int
}

func (c *Compute) partLinear(n, k int, row func(i int, dst []float32), bias []float32) model.Linear {
	w := newParted(c.kern, n, k)
	parallel(c.workers, len(w.panels), func(_, panel int) {
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		w.setPanel(s, panel, row)
	})
	copy(w.bias, bias)
	return &partedLinear{w: w, workers: c.workers}
}

// Shape returns N and K.
func (l *partedLinear) Shape() (n, k int) { return l.w.n, l.w.k }

// Forward writes x (M, K) · Wᵀ + bias into dst (M, N).
func (l *partedLinear) Forward(dst, x tensor.Matrix) { l.scaled(dst, x, nil) }

// scaled writes scale · x · Wᵀ + bias, scale being one factor a row.
func (l *partedLinear) scaled(dst, x tensor.Matrix, scale []float32) {
	checkShapes(dst, x, l.w.n, l.w.k)
	multiplyParts(l.workers, dst, x, scale, l.w)
}
