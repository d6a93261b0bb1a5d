package cuda

import (
	"quantize/kernels/ref"
	"quantize/tensor"
)

// PackActivations rounds x (M, K) per token ([ref.QuantizeToken]) and puts the
// codes into the layout of the package comment; k beyond K is zero. It is the
// plain twin of quantize.cu.
func PackActivations(x tensor.Matrix) (codes []uint8, token []float32) {
	rows, slabs := paddedRows(x.Rows), ceilDiv(x.Cols, slab)
	codes = make([]uint8, slabs*rows*slab)
	token = make([]float32, x.Rows)
	row := make([]uint8, x.Cols)
	for m := range token {
		token[m] = ref.QuantizeToken(row, x.Row(m))
		for k, c := range row {
			codes[activationOffset(m, k, rows)] = c
		}
	}
	return codes, token
}
