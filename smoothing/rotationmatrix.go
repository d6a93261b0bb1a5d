package smoothing

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"

	"quantize/model"
)

// whole views a parameter as a matrix that can be cut.
func whole(p *model.Param) blas64.General {
	return blas64.General{Rows: p.Rows, Cols: p.Cols, Stride: p.Cols, Data: p.Data}
}

// cut views rows [i, i+rows) and columns [j, j+cols).
func cut(w blas64.General, i, j, rows, cols int) blas64.General {
	if rows == 0 || cols == 0 {
		return blas64.General{Rows: rows, Cols: cols, Stride: w.Stride}
	}
	from := i*w.Stride + j
	return blas64.General{Rows: rows, Cols: cols, Stride: w.Stride, Data: w.Data[from : from+(rows-1)*w.Stride+cols]}
}

// slab is how many rows or columns a dense matrix multiplies at a time, and so
// the size of its work area.
const slab = 512

// rotateRows is W <- W Q for W (rows, n), on all cores: one transform a row, or
// matrix products with a dense Q.
func rotateRows(q Orthogonal, w blas64.General) {
	n := q.Order()
	if w.Cols != n {
		panic("smoothing: columns of the weight are not the order of the rotation")
	}
	if d, ok := q.(*Dense); ok {
		product := make([]float64, min(slab, w.Rows)*n)
		for i := 0; i < w.Rows; i += slab {
			part := cut(w, i, 0, min(slab, w.Rows-i), n)
			out := blas64.General{Rows: part.Rows, Cols: n, Stride: n, Data: product[:part.Rows*n]}
			blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, part, d.q, 0, out)
			copyMatrix(part, out)
		}
		return
	}
	sharedOut(w.Rows, max(1, fewestWeights/n), func(from, to int) {
		for i := from; i < to; i++ {
			q.Rotate(w.Data[i*w.Stride : i*w.Stride+n])
		}
	})
}

// rotateColumns is W <- Qᵀ W for W (n, cols), on all cores: every column, read
// as a row, is rotated.
func rotateColumns(q Orthogonal, w blas64.General) {
	n := q.Order()
	if w.Rows != n {
		panic("smoothing: rows of the weight are not the order of the rotation")
	}
	if d, ok := q.(*Dense); ok {
		product := make([]float64, n*min(slab, w.Cols))
		for j := 0; j < w.Cols; j += slab {
			part := cut(w, 0, j, n, min(slab, w.Cols-j))
			out := blas64.General{Rows: n, Cols: part.Cols, Stride: part.Cols, Data: product[:n*part.Cols]}
			blas64.Gemm(blas.Trans, blas.NoTrans, 1, d.q, part, 0, out)
			copyMatrix(part, out)
		}
		return
	}
	const together = 16 // columns: two cache lines of a row
	groups := (w.Cols + together - 1) / together
	sharedOut(groups, max(1, fewestWeights/(n*together)), func(from, to int) {
		lead := n + 8 // columns a power of two apart would share a few sets of the cache
		rows := blas64.General{Cols: n, Stride: lead, Data: make([]float64, together*lead)}
		for g := from; g < to; g++ {
			part := cut(w, 0, g*together, n, min(together, w.Cols-g*together))
			rows.Rows = part.Cols
			transpose(rows, part)
			for j := range rows.Rows {
				q.Rotate(rows.Data[j*lead : j*lead+n])
			}
			transpose(part, rows)
		}
	})
}

// transpose writes srcᵀ into dst, a cache line of it at a time.
func transpose(dst, src blas64.General) {
	const line = 8
	for i := 0; i < src.Rows; i += line {
		count := min(line, src.Rows-i)
		for j := range src.Cols {
			out, in := dst.Data[j*dst.Stride+i:][:count], src.Data[i*src.Stride+j:]
			for k := range out {
				out[k] = in[k*src.Stride]
			}
		}
	}
}

func copyMatrix(dst, src blas64.General) {
	for i := range src.Rows {
		copy(dst.Data[i*dst.Stride:], src.Data[i*src.Stride:i*src.Stride+src.Cols])
	}
}
