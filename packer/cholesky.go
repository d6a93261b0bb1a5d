package packer

import "math"

// choleskyBlock columns are factored at a time, choleskyTile rows handed to a
// worker.
const (
	choleskyBlock = 64
	choleskyTile  = 32
)

// reverseCholesky overwrites the upper triangle of the symmetric a (n, n) with
// the upper triangular R of A = R·Rᵀ: the Cholesky factor of A with rows and
// columns in reverse order, put back in order. Only the upper triangle is read
// and written. It reports false, with a spoilt, when a is not positive definite
// beyond rounding.
//
// Blocks of columns are done from the last to the first. With J such a block and
// k over the columns behind it,
//
//	A_iJ -= Σ_k R_ik R_Jk       all rows i up to J: the bulk of the work
//	A_JJ  = R_JJ·R_JJᵀ          in place
//	R_iJ  = A_iJ·R_JJ⁻ᵀ         the rows i above J
//
// in sums of fixed order over rows of R, whatever the number of workers.
func reverseCholesky(a []float64, n int) bool {
	m := block64{a, n}
	smallest := make([]float64, n) // pivots that are rounding errors
	for i := range smallest {
		smallest[i] = float64(n) * 0x1p-52 * a[i*n+i]
	}
	blocks := (n + choleskyBlock - 1) / choleskyBlock
	diagonal := make([]float64, choleskyBlock*choleskyBlock)
	for b := blocks - 1; b >= 0; b-- {
		from := b * choleskyBlock
		to := min(from+choleskyBlock, n)
		overRows((to-from+3)/4, func(next func() (int, bool)) {
			sums := make([]float64, 4*choleskyBlock)
			for t, ok := next(); ok; t, ok = next() {
				first := from + 4*t
				subtractBehind(m, sums, first, min(first+4, to), from, to, n)
			}
		})
		if !factorDiagonal(m, diagonal, smallest, from, to) {
			return false
		}
		overRows((from+choleskyTile-1)/choleskyTile, func(next func() (int, bool)) {
			sums := make([]float64, choleskyTile*choleskyBlock)
			for t, ok := next(); ok; t, ok = next() {
				first, last := t*choleskyTile, min((t+1)*choleskyTile, from)
				subtractBehind(m, sums, first, last, from, to, n)
				for i := first; i < last; i++ {
					solveRow(m.row(i, from, to), diagonal)
				}
			}
		})
	}
	return true
}

// subtractBehind does A_ij -= Σ_k R_ik R_jk, k from to on, for rows [first, last)
// and the columns [from, to) of the upper triangle. sums is scratch.
func subtractBehind(m block64, sums []float64, first, last, from, to, n int) {
	if first == last || to == n {
		return
	}
	clear(sums)
	cols := to - from
	addProduct(block64{sums, cols}, block64{m.data[first*n:], n}, block64{m.data[from*n:], n}, last-first, cols, to, n)
	for i := first; i < last; i++ {
		begin := max(i, from)
		row := m.row(i, begin, to)
		for j, s := range sums[(i-first)*cols+begin-from : (i-first+1)*cols] {
			row[j] -= s
		}
	}
}

// factorDiagonal does A_JJ = R_JJ·R_JJᵀ for the columns [from, to) and leaves
// R_JJᵀ, rows of choleskyBlock, in transposed.
func factorDiagonal(m block64, transposed, smallest []float64, from, to int) bool {
	for j := to - 1; j >= from; j-- {
		pivot := m.row(j, j, j+1)
		if !(pivot[0] > smallest[j] && pivot[0] < math.MaxFloat64) {
			return false
		}
		root := math.Sqrt(pivot[0])
		pivot[0] = root
		column := transposed[(j-from)*choleskyBlock:][:j-from+1]
		column[j-from] = root
		for i := range column[:j-from] {
			r := m.row(from+i, j, j+1)
			r[0] /= root
			column[i] = r[0]
		}
		for i := range column[:j-from] {
			row := m.row(from+i, from, j)
			for k := i; k < j-from; k++ {
				row[k] -= float64(column[i] * column[k])
			}
		}
	}
	return true
}

// solveRow overwrites x with x·R⁻ᵀ, given rows of Rᵀ.
func solveRow(x, transposed []float64) {
	for j := len(x) - 1; j >= 0; j-- {
		column := transposed[j*choleskyBlock:][:j+1]
		x[j] /= column[j]
		v := x[j]
		for k, r := range column[:j] {
			x[k] -= float64(v * r)
		}
	}
}
