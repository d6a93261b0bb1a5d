package cpu

import "unsafe"

// maxParts is the number of BF16 numbers whose sum is any FP32 number: 3 x 8 bits.
const maxParts = 3

// The tiles of a product of BF16 parts: 32 rows and columns, two tiles a side,
// and 32 steps of k at once.
const (
	partSide  = 32
	partStep  = 32
	partTile  = 16 * partStep // BF16 numbers of a tile
	partPair  = 2 * partTile  // of one part of a step of either operand
	partBytes = 2
)

// partKernel computes products of FP32 matrices as sums of products of BF16
// numbers, summed in FP32. Rows of both operands are scaled by powers of two
// beforehand, to below 2, so that nothing overflows and what a processor flushes
// to zero, a part or a product of parts, is below 2^-126 of the largest one's.
type partKernel struct {
	// cut writes x[:n]·2^-exponent, n a multiple of 32, as maxParts BF16 parts,
	// part bytes apart, step bytes from one 32 elements to the next. Element i
	// of 32 becomes word 2·i, element 16+i word 2·i+1. second and third tell
	// whether any of those parts is not 0.
	cut func(dst *uint16, step, part int, x *float32, n int, exponent float32) (second, third uint32)
	// maxAbs returns the largest magnitude of n elements, a multiple of 16; NaN is above all.
	maxAbs func(x *float32, n int) float32
	// products[p][q] computes, for i < rows and j < 32 with bit j of mask,
	//
	//	c[i*ldc+j] = init[i*ldinit+j] + scale[i]·2^(exponent[i]+column[j]) · sum over k of a[i,k]·b[k,j]
	//
	// for p parts of a and q parts of b. a has maxParts parts for each of the
	// steps, of 32 rows at a time, b q parts; products of parts below 2^-24 of
	// the whole are left out, smaller ones come first. sums is scratch of 32 x
	// 32. It asks for the cache lines from next on, an address as in tileFunc.
	products [maxParts + 1][maxParts + 1]partFunc
}

type partFunc func(rows, steps int, a, b *uint16, c *float32, ldc int, init *float32, ldinit int,
	exponent, scale, column *float32, mask uint32, sums *float32, config *byte, next uintptr)

// tileConfig is what LDTILECFG reads: palette 1, eight tiles of 16 rows of 64 bytes.
var tileConfig = func() (c [64]byte) {
	c[0] = 1
	for t := range 8 {
		c[16+2*t], c[48+t] = 64, 16
	}
	return c
}()

// words returns n zeros that start on a cache line.
func words(n int) []uint16 {
	f := aligned((n + 1) / 2)
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(f))), 2*len(f))[:n]
}

// parted is a weight (N, K) cut into BF16 parts, in the order in which the
// products read it:
//
//	for each panel of 32 output features    (the last is padded with zeros)
//	  for each 32 steps of k                (the last are padded with zeros)
//	    for each part                       (as many as the panel needs)
//	      for columns 0-15 and 16-31
//	        16 pairs of k, 16 columns, 2 values
type parted struct {
	kern     *kernel
	n, k     int
	steps    int
	panels   [][]uint16
	exponent []float32 // panels * 32: of the power of two taken out of each row
	bias     []float32 // panels * 32, zeros where there is none
}

func newParted(kern *kernel, n, k int) *parted {
	panels := (n + partSide - 1) / partSide
	return &parted{
		kern: kern, n: n, k: k, steps: (k + partStep - 1) / partStep, panels: make([][]uint16, panels),
		exponent: make([]float32, panels*partSide), bias: make([]float32, panels*partSide),
	}
}

// parts returns the number of parts of a panel.
func (w *parted) parts(panel int) int {
	if w.steps == 0 {
		return 1
	}
	return len(w.panels[panel]) / (w.steps * partPair)
}

// setPanel packs the rows of one panel, which row(j, dst) writes.
func (w *parted) setPanel(s *scratch, panel int, row func(j int, dst []float32)) {
	padded := w.steps * partStep
	s.rows = grow(s.rows, max(1, padded))
	s.words = growWords(s.words, maxParts*partSide*padded) // [part][row][k]
	clear(s.words)
	clear(s.rows)
	var second, third uint32
	for j := panel * partSide; j < min(w.n, (panel+1)*partSide) && w.k > 0; j++ {
		row(j, s.rows[:w.k])
		e, finite := exponentOf(w.kern.parts.maxAbs(&s.rows[0], padded))
		w.exponent[j] = e
		if !finite {
			continue
		}
		b, c := w.kern.parts.cut(&s.words[j%partSide*padded], partBytes*partStep, partBytes*partSide*padded, &s.rows[0], padded, e)
		second, third = second|b, third|c
	}
	parts := 1
	if third != 0 {
		parts = 3
	} else if second != 0 {
		parts = 2
	}
	out := words(w.steps * parts * partPair)
	for step := range w.steps {
		for p := range parts {
			for j := 0; j < partSide; j += together {
				from := (p*partSide+j)*padded + step*partStep
				to := (step*parts+p)*partPair + j/16*partTile + j%16*2
				w.kern.interleave(pairs(out, to), 16, pairs(s.words, from), padded/2, 16)
			}
		}
	}
	w.panels[panel] = out
}

// pairs returns the address of two words, which are moved as one.
func pairs(s []uint16, i int) *float32 { return (*float32)(unsafe.Pointer(&s[i])) }

func growWords(s []uint16, n int) []uint16 {
	if cap(s) < n {
		return words(n)
	}
	return s[:n]
}
