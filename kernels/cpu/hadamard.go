package cpu

import (
	"math"
	"math/bits"
	"sync"

	"quantize/smoothing"
	"quantize/tensor"
)

// hadamard is a Hadamard matrix (n, n) as the order in which it is multiplied.
// The lowest bits of the index, where neighbours meet, are done by additions:
// H_low, low <= 32. Every other factor is a product with a small matrix: Paley's
// H_m, and what is left of H_2^k = H_2^a ⊗ H_2^b ⊗ .. ⊗ H_low.
type hadamard struct {
	kern   *kernel
	n, low int
	stages []stage
	scale  float32   // 1/√(n/b)
	zeros  []float32 // one row of a tile
	work   sync.Pool // *hadamardWork
}

// stage multiplies the vectors x[o·m·stride + t + c·stride], c < m, for every o
// and t < stride.
type stage struct {
	m, stride int
	matrix    []float32 // (m, m) of ±1
}

// hadamardWork is the memory of one worker.
type hadamardWork struct {
	in, out []float32 // (m, cols): vectors side by side, as a panel and as a product
	starts  []int     // (cols) where a vector begins
}

const (
	// mostLow is the largest low: the widest tile, so that the vectors of every
	// other stage are neighbours.
	mostLow = 32
	// partBits are the bits of the largest part of a Sylvester matrix: a product
	// with a matrix of 16 takes the time of four additions where a vector has 16
	// lanes, and saves three passes over the row.
	partBits = 4
)

// Hadamard returns a function that replaces each row x (n) of a matrix by Hx, on
// all workers: the run-time side of smoothing.Down. Products with ±1 are
// exact, and the sums run in one order: the result is the same to the bit on
// every instruction set and any number of workers.
func (c *Compute) Hadamard(h *smoothing.Hadamard) func(x tensor.Matrix) {
	t := newHadamard(c.kern, h)
	return func(x tensor.Matrix) {
		if x.Cols != t.n {
			panic("cpu: columns of x are not the order of the rotation")
		}
		c.rowwise(x.Rows, x.Cols, func(i int) {
			w := t.work.Get().(*hadamardWork)
			defer t.work.Put(w)
			row := x.Row(i)
			additions(row, t.low)
			for s := range t.stages {
				t.apply(&t.stages[s], row, w)
			}
			whole := t.n / t.kern.lanes * t.kern.lanes
			t.kern.scale(pointer(row, 0), pointer(row, 0), whole, t.scale)
			for j := whole; j < t.n; j++ {
				row[j] *= t.scale
			}
		})
	}
}

func newHadamard(kern *kernel, h *smoothing.Hadamard) *hadamard {
	block := h.Order() / h.Blocks()
	t := &hadamard{
		kern: kern, n: h.Order(), low: 1, zeros: make([]float32, kern.cols),
		scale: float32(1 / math.Sqrt(float64(block))),
	}
	stride, largest := block, 1
	put := func(factor, m int) {
		stride /= m
		s := stage{m: m, stride: stride, matrix: make([]float32, m*m)}
		for i := range s.matrix {
			s.matrix[i] = float32(h.FactorSign(factor, i/m, i%m))
		}
		t.stages = append(t.stages, s)
		largest = max(largest, m)
	}
	for factor, m := range h.Factors() {
		if m&(m-1) != 0 {
			put(factor, m)
			continue
		}
		t.low = min(m, mostLow)
		for _, part := range parts(m / t.low) {
			put(factor, part) // H_2^a is the leading part of H_2^k
		}
	}
	t.work.New = func() any {
		return &hadamardWork{
			in: aligned(largest * kern.cols), out: aligned(largest * kern.cols), starts: make([]int, kern.cols),
		}
	}
	return t
}

// parts cuts a power of two into the fewest factors of at most 2^partBits, nearly
// equal.
func parts(n int) []int {
	k := bits.TrailingZeros(uint(n))
	all := make([]int, (k+partBits-1)/partBits)
	for i := range all {
		all[i] = 1 << ((k + i) / len(all))
	}
	return all
}

// additions multiplies every low consecutive elements of x by H_low: for each
// distance 1, 2, 4, .. (u, v) <- (u+v, u-v), the first three in registers.
func additions(x []float32, low int) {
	distance := 1
	if low >= 8 {
		for rest := x; len(rest) >= 8; rest = rest[8:] {
			v := (*[8]float32)(rest)
			a, b, c, d := v[0]+v[1], v[0]-v[1], v[2]+v[3], v[2]-v[3]
			e, f, g, h := v[4]+v[5], v[4]-v[5], v[6]+v[7], v[6]-v[7]
			a, b, c, d = a+c, b+d, a-c, b-d
			e, f, g, h = e+g, f+h, e-g, f-h
			v[0], v[1], v[2], v[3] = a+e, b+f, c+g, d+h
			v[4], v[5], v[6], v[7] = a-e, b-f, c-g, d-h
		}
		distance = 8
	}
	for ; distance < low; distance *= 2 {
		for from := 0; from < len(x); from += 2 * distance {
			a, b := x[from:from+distance], x[from+distance:from+2*distance]
			for i, u := range a {
				v := b[i]
				a[i], b[i] = u+v, u-v
			}
		}
	}
}

// apply runs one stage over a row, cols vectors at a time: they are copied side
// by side into a panel, which the tiles of the matrix product read. Where vectors
// are neighbours, the product goes straight back into the row.
func (t *hadamard) apply(s *stage, row []float32, w *hadamardWork) {
	kern, cols := t.kern, t.kern.cols
	direct := s.stride%cols == 0
	vectors := t.n / s.m
	for first := 0; first < vectors; first += cols {
		count := min(cols, vectors-first)
		for j := range w.starts {
			v := min(first+j, vectors-1) // the last one again fills the panel
			w.starts[j] = v/s.stride*s.m*s.stride + v%s.stride
		}
		if direct {
			from := row[w.starts[0]:]
			for c := range s.m {
				copy(w.in[c*cols:(c+1)*cols], from[c*s.stride:])
			}
			kern.product(s.m, s.m, &s.matrix[0], s.m, &w.in[0], &from[0], s.stride, &t.zeros[0], 0, 0)
			continue
		}
		for c := range s.m {
			line := w.in[c*cols : (c+1)*cols]
			for j, o := range w.starts {
				line[j] = row[o+c*s.stride]
			}
		}
		kern.product(s.m, s.m, &s.matrix[0], s.m, &w.in[0], &w.out[0], cols, &t.zeros[0], 0, 0)
		for c := range s.m {
			line := w.out[c*cols : c*cols+count]
			for j, v := range line {
				row[w.starts[j]+c*s.stride] = v
			}
		}
	}
}
