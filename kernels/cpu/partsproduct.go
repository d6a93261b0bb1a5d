package cpu

import (
	"math"
	"unsafe"

	"quantize/tensor"
)

// A task of a product of parts has so many rows and steps of k that its part of
// x, 6 bytes an element, stays in the second-level cache.
const (
	partRows  = 192
	partBlock = 1024
	// partCols is the least number of columns for which x is cut again.
	partCols = 512
)

// multiplyParts computes dst (M, N) = scale · x (M, K) · wᵀ + bias, scale being
// one factor a row, or nil. Tasks and loops are those of multiply; here rows are
// cut into parts where they are copied there.
func multiplyParts(workers int, dst, x tensor.Matrix, scale []float32, w *parted) {
	m, panels := x.Rows, len(w.panels)
	if m == 0 || w.n == 0 {
		return
	}
	high := max((m+partRows-1)/partRows, min(workers, (m+partSide-1)/partSide))
	height := ((m+high-1)/high + partSide - 1) / partSide * partSide // nearly equal blocks
	high = (m + height - 1) / height
	wide := 1
	if workers > 1 {
		wide = min((w.n+partCols-1)/partCols, max(1, (4*workers+high-1)/high))
	}
	parallel(workers, high*wide, func(_, task int) {
		i, j := task/wide, task%wide
		from, to := i*height, min(m, (i+1)*height)
		factors := scale
		if scale != nil {
			factors = scale[from:to]
		}
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		s.partBlock(dst.RowRange(from, to), x.RowRange(from, to), factors, w, j*panels/wide, (j+1)*panels/wide)
	})
}

func (s *scratch) partBlock(dst, x tensor.Matrix, scale []float32, w *parted, from, to int) {
	groups := (x.Rows + partSide - 1) / partSide
	s.sums = grow(s.sums, partSide*partSide)
	s.scale = grow(s.scale, groups*partSide)
	for i := range s.scale {
		s.scale[i] = 1
	}
	copy(s.scale, scale)
	s.odd = s.odd[:0]
	block := evenBlock(w.k, partBlock)
	block = (block + partStep - 1) / partStep * partStep
	for b := 0; b == 0 || b*block < w.k; b++ {
		k := min(block, w.k-b*block)
		steps := (k + partStep - 1) / partStep
		parts := s.cut(x.ColRange(b*block, b*block+k), w.kern.parts)
		for p := from; p < to; p++ {
			have := w.parts(p)
			panel := wordAt(w.panels[p], b*block/partStep*have*partPair)
			col := p * partSide
			c := pointer(dst.Data, col)
			init, ldinit := &w.bias[col], 0
			if b > 0 {
				init, ldinit = c, dst.Stride
			}
			width := min(partSide, w.n-col)
			next := uintptr(unsafe.Pointer(panel))
			if p+1 < to {
				next = uintptr(unsafe.Pointer(wordAt(w.panels[p+1], b*block/partStep*w.parts(p+1)*partPair)))
			}
			w.kern.parts.products[parts][have](x.Rows, steps, wordAt(s.words, 0), panel, c, dst.Stride, init, ldinit,
				&s.exponent[0], &s.scale[0], &w.exponent[col], uint32(1<<width-1), &s.sums[0], &tileConfig[0], next)
		}
	}
	s.infinite(dst, x, w, from, to)
}

// cut fills s.words with the parts of x, 32 rows after another, as tiles, and
// s.exponent with the powers of two taken out. It returns how many parts are
// needed, 1 or maxParts. Rows that are not finite become zeros and their exponent
// NaN, which is what their sums then are.
func (s *scratch) cut(x tensor.Matrix, kern *partKernel) int {
	groups, steps := (x.Rows+partSide-1)/partSide, (x.Cols+partStep-1)/partStep
	s.words = growWords(s.words, max(1, groups*steps*maxParts*partPair))
	s.exponent = grow(s.exponent, groups*partSide)
	clear(s.exponent)
	whole := x.Cols / partStep * partStep
	var low uint32
	for i := range groups * partSide {
		at := i/partSide*steps*maxParts*partPair + i%partSide/16*partTile + i%16*partStep
		row, top := []float32(nil), float32(0)
		if i < x.Rows && x.Cols > 0 {
			row = x.Row(i)
			top = largestOf(row, whole, kern.maxAbs)
		}
		e, finite := exponentOf(top)
		s.exponent[i] = e
		if !finite {
			s.odd = append(s.odd, i)
		}
		if !finite || row == nil {
			for p := range steps * maxParts {
				clear(s.words[at+p*partPair:][:partStep])
			}
			continue
		}
		const stride = partBytes * maxParts * partPair
		if whole > 0 {
			second, third := kern.cut(&s.words[at], stride, partBytes*partPair, &row[0], whole, e)
			low |= second | third
		}
		if whole < x.Cols {
			var rest [partStep]float32
			copy(rest[:], row[whole:])
			second, third := kern.cut(&s.words[at+whole/partStep*maxParts*partPair], stride, partBytes*partPair, &rest[0], partStep, e)
			low |= second | third
		}
	}
	if low == 0 {
		return 1
	}
	return maxParts
}

// exponentOf returns the exponent of the power of two that brings a row with
// that largest magnitude to below 2, and NaN where there is none.
func exponentOf(top float32) (e float32, finite bool) {
	switch {
	case top == 0:
		return 0, true
	case top <= math.MaxFloat32:
		return float32(math.Ilogb(float64(top))), true
	}
	return float32(math.NaN()), false
}

// infinite writes what rows with infinities and no NaN sum to: an infinity where
// all that reach a column agree, else NaN. The product made them all NaN.
func (s *scratch) infinite(dst, x tensor.Matrix, w *parted, from, to int) {
	for _, i := range s.odd {
		row := x.Row(i)
		if math.IsNaN(float64(maxAbsOf(row))) {
			continue
		}
		out := dst.Row(i)
		for j := from * partSide; j < min(w.n, to*partSide); j++ {
			sum := float32(0)
			for k, v := range row {
				if math.IsInf(float64(v), 0) {
					sum += v * w.sign(j, k)
				}
			}
			out[j] = sum + w.bias[j]
		}
	}
}

// sign returns the first part of element (j, k), which has its sign and is 0
// where it is.
func (w *parted) sign(j, k int) float32 {
	panel := j / partSide
	within := k % partStep // word 2·i has element i, word 2·i+1 element 16+i
	at := k/partStep*w.parts(panel)*partPair + j%partSide/16*partTile + within%16*partStep + j%16*2 + within/16
	return tensor.BF16Value(w.panels[panel][at])
}

func wordAt(s []uint16, i int) *uint16 {
	if i >= len(s) {
		return unsafe.SliceData(s)
	}
	return &s[i]
}
