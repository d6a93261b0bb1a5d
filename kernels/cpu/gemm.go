package cpu

import (
	"sync"
	"unsafe"

	"quantize/tensor"
)

// multiply computes dst (M, N) = x (M, K) · wᵀ + bias.
//
// A task is a block of rows and a run of panels. Inside it, as in Goto and van
// de Geijn, "Anatomy of High-Performance Matrix Multiplication" (TOMS 34.3, 2008):
//
//	for each block of k
//	  copy the rows' part of x together         (second-level cache)
//	  for each panel                            (first-level cache)
//	    for each tile of the rows               (registers)
//	      dst tile = (bias or dst tile) + x tile · panel
//
// Every element sees its blocks of k in order and, inside a block, one chain of
// additions: it does not depend on M, on the tasks or on the workers.
func multiply(workers int, dst, x tensor.Matrix, w *packed) {
	m, panels := x.Rows, w.panels()
	if m == 0 || w.n == 0 {
		return
	}
	kern := w.kern
	height := kern.blockM
	if share := (m + workers - 1) / workers; share < height {
		height = (share + kern.rows - 1) / kern.rows * kern.rows
	}
	high := (m + height - 1) / height
	height = ((m+high-1)/high + kern.rows - 1) / kern.rows * kern.rows // nearly equal blocks
	wide := 1
	if workers > 1 {
		wide = min(panels, max(1, (4*workers+high-1)/high))
	}
	parallel(workers, high*wide, func(_, task int) {
		i, j := task/wide, task%wide
		rows := min(height, m-i*height)
		if rows <= 0 {
			return
		}
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		s.block(dst.RowRange(i*height, i*height+rows), x.RowRange(i*height, i*height+rows), w,
			j*panels/wide, (j+1)*panels/wide)
	})
}

// scratch is the memory of one task.
type scratch struct {
	rows []float32 // the part of x under work
	tile []float32 // a tile of the last, partly filled panel

	words           []uint16  // rows cut into BF16 parts
	exponent, scale []float32 // of each row
	sums            []float32 // of one product of parts
	odd             []int     // rows that are not finite
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// grow returns a slice of n elements, of unspecified content.
func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return aligned(n)
	}
	return s[:n]
}

func (s *scratch) block(dst, x tensor.Matrix, w *packed, from, to int) {
	kern := w.kern
	for b := range w.blocks() {
		k := w.steps(b)
		a, lda := s.gather(x.ColRange(b*w.block, b*w.block+k))
		for p := from; p < to; p++ {
			panel := pointer(w.data, w.start(b, p))
			init, ldinit := pointer(w.bias, p*kern.cols), 0
			col := p * kern.cols
			if col+kern.cols <= w.n {
				c := pointer(dst.Data, col)
				if b > 0 {
					init, ldinit = c, dst.Stride
				}
				kern.product(x.Rows, k, a, lda, panel, c, dst.Stride, init, ldinit, uintptr(unsafe.Pointer(panel))+uintptr(4*k*kern.cols))
				continue
			}
			s.narrow(dst.ColRange(col, w.n), b, k, a, lda, w, panel, init)
		}
	}
}

// narrow computes the last panel, of fewer than cols columns, beside dst.
func (s *scratch) narrow(dst tensor.Matrix, b, k int, a *float32, lda int, w *packed, panel, bias *float32) {
	cols := w.kern.cols
	s.tile = grow(s.tile, dst.Rows*cols)
	c := pointer(s.tile, 0)
	init, ldinit := bias, 0
	if b > 0 {
		for i := range dst.Rows {
			copy(s.tile[i*cols:(i+1)*cols], dst.Row(i))
			clear(s.tile[i*cols+dst.Cols : (i+1)*cols])
		}
		init, ldinit = c, cols
	}
	w.kern.product(dst.Rows, k, a, lda, panel, c, cols, init, ldinit, 0)
	for i := range dst.Rows {
		copy(dst.Row(i), s.tile[i*cols:])
	}
}

// gather returns the rows of x close together. Rows a power of two apart would
// share a few sets of the cache.
func (s *scratch) gather(x tensor.Matrix) (a *float32, lda int) {
	s.rows = grow(s.rows, max(1, x.Rows*x.Cols))
	for i := range x.Rows {
		copy(s.rows[i*x.Cols:(i+1)*x.Cols], x.Row(i))
	}
	return pointer(s.rows, 0), x.Cols
}

// maxAhead bounds the cache lines of the next panel that a tile asks for: more
// requests than the processor can have under way would stall it.
const maxAhead = 32

// product runs full tiles and then one smaller tile over rows of a.
func (kern *kernel) product(rows, k int, a *float32, lda int, b, c *float32, ldc int, init *float32, ldinit int, next uintptr) {
	full := rows / kern.rows
	if full > 0 {
		lines := 0
		if next != 0 {
			lines = min(maxAhead, (k*kern.cols/16+full-1)/full)
		}
		kern.tiles[kern.rows](full, k, a, lda, b, c, ldc, init, ldinit, next, lines)
	}
	if rest := rows % kern.rows; rest > 0 {
		done := full * kern.rows
		kern.tiles[rest](1, k, forward(a, done*lda), lda, b, forward(c, done*ldc), ldc, forward(init, done*ldinit), ldinit, 0, 0)
	}
}

// pointer is &s[i], and a pointer that is not read when s is empty.
func pointer(s []float32, i int) *float32 {
	if len(s) == 0 {
		return unsafe.SliceData(s)
	}
	return &s[i]
}
