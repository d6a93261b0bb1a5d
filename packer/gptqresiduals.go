package packer

import (
	"quantize/calibrate"
	"quantize/tensor"
)

// residuals are the errors w-w' of some rows (rows, K) so far, in FP64, or in
// FP32 where a fast product takes them.
type residuals struct {
	full  block64
	short tensor.Matrix
	fast  calibrate.MatMulT

	columns      []float64 // (block, K): columns of U, one a row
	shortColumns []float32
	product      []float32 // (rows, block)
}

func newResiduals(rows, k int, p Propagation) residuals {
	block := min(p.BlockSize, k)
	if p.MatMulT == nil {
		return residuals{full: block64{make([]float64, rows*k), k}, columns: make([]float64, block*k)}
	}
	return residuals{
		fast: p.MatMulT, short: tensor.NewMatrix(rows, k),
		shortColumns: make([]float32, block*k), product: make([]float32, rows*block),
	}
}

func (r *residuals) set(n, i int, e float64) {
	if r.fast == nil {
		r.full.data[n*r.full.stride+i] = e
	} else {
		r.short.Data[n*r.short.Stride+i] = float32(e)
	}
}

func (r *residuals) get(n, i int) float64 {
	if r.fast == nil {
		return r.full.data[n*r.full.stride+i]
	}
	return float64(r.short.Data[n*r.short.Stride+i])
}

// before writes Σ_{j<from} e_nj U_ji into sums (rows, to-from) for the columns
// i of [from, to).
func (r *residuals) before(sums block64, f *Factor, rows, from, to int) {
	cols := to - from
	if r.fast == nil {
		transposeColumns(r.columns, f, from, from, to)
		columns := block64{r.columns, from}
		const tile = 8
		overRows((rows+tile-1)/tile, func(next func() (int, bool)) {
			for t, ok := next(); ok; t, ok = next() {
				first, last := t*tile, min((t+1)*tile, rows)
				c := block64{sums.data[first*sums.stride:], sums.stride}
				for n := range last - first {
					clear(c.row(n, 0, cols))
				}
				addProduct(c, block64{r.full.data[first*r.full.stride:], r.full.stride}, columns, last-first, cols, 0, from)
			}
		})
		return
	}
	dst := tensor.MatrixOf(rows, cols, r.product[:rows*cols])
	if from == 0 {
		clear(dst.Data)
	} else {
		transposeColumns(r.shortColumns, f, from, from, to)
		r.fast(dst, r.short.RowRange(0, rows).ColRange(0, from), tensor.MatrixOf(cols, from, r.shortColumns[:cols*from]))
	}
	overRows(rows, func(next func() (int, bool)) {
		for n, ok := next(); ok; n, ok = next() {
			row := sums.row(n, 0, cols)
			for j, x := range dst.Row(n) {
				row[j] = float64(x)
			}
		}
	})
}

// transposeColumns writes U_ji, j < rows, of the columns i of [from, to) into dst
// (to-from, rows); rows is at most to.
func transposeColumns[T float32 | float64](dst []T, f *Factor, rows, from, to int) {
	const tile = 64
	overRows((rows+tile-1)/tile, func(next func() (int, bool)) {
		for t, ok := next(); ok; t, ok = next() {
			for j := t * tile; j < min((t+1)*tile, rows); j++ {
				zeros := max(0, j-from) // what lies below the diagonal of f.h is H
				for i := range zeros {
					dst[i*rows+j] = 0
				}
				for i, u := range f.h[j*f.K+from+zeros : j*f.K+to] {
					dst[(zeros+i)*rows+j] = T(u)
				}
			}
		}
	})
}
