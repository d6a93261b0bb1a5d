package tensor

import "fmt"

// Matrix is a row-major FP32 matrix. Element (i, j) is Data[i*Stride+j].
// A Matrix is a view: copying it does not copy the elements.
type Matrix struct {
	Rows, Cols int
	Stride     int // distance of two rows in elements, at least Cols
	Data       []float32
}

// NewMatrix returns a zeroed contiguous rows x cols matrix.
func NewMatrix(rows, cols int) Matrix {
	return Matrix{Rows: rows, Cols: cols, Stride: cols, Data: make([]float32, rows*cols)}
}

// MatrixOf views data, of length rows*cols, as a contiguous matrix.
func MatrixOf(rows, cols int, data []float32) Matrix {
	if len(data) != rows*cols {
		panic(fmt.Sprintf("tensor: %d elements for a %dx%d matrix", len(data), rows, cols))
	}
	return Matrix{Rows: rows, Cols: cols, Stride: cols, Data: data}
}

// Row returns row i; its capacity ends with the row.
func (m Matrix) Row(i int) []float32 {
	o := i * m.Stride
	return m.Data[o : o+m.Cols : o+m.Cols]
}

// RowRange views rows [from, to).
func (m Matrix) RowRange(from, to int) Matrix {
	if from == to {
		return Matrix{Cols: m.Cols, Stride: m.Stride}
	}
	return Matrix{Rows: to - from, Cols: m.Cols, Stride: m.Stride, Data: m.Data[from*m.Stride : (to-1)*m.Stride+m.Cols]}
}

// ColRange views columns [from, to).
func (m Matrix) ColRange(from, to int) Matrix {
	if m.Rows == 0 || from == to {
		return Matrix{Rows: m.Rows, Cols: to - from, Stride: m.Stride}
	}
	return Matrix{Rows: m.Rows, Cols: to - from, Stride: m.Stride, Data: m.Data[from : (m.Rows-1)*m.Stride+to]}
}
