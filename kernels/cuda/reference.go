//go:build cuda

package cuda

import (
	"fmt"

	"quantize/packer"
	"quantize/tensor"
)

// referenceArgument is struct Reference of reference.cu.
type referenceArgument struct {
	Codes, Eighths, Channel, Bias, X, Token, Y uint64
	K, Group, XRows, Table                     int32
	Rows, Columns                              int32
	Row0, RowStep, Column0, ColumnStep         int32
}

// Sample names the tokens and channels of a product at which it is computed
// again: Row0, Row0+RowStep ... and Column0, Column0+ColumnStep ...
type Sample struct {
	Rows, Row0, RowStep          int
	Columns, Column0, ColumnStep int
}

// everything samples all of a product.
func everything(m, n int) Sample {
	return Sample{Rows: m, RowStep: 1, Columns: n, ColumnStep: 1}
}

// Reference computes the product at a sample of places in float64, from the
// stored weight and the rounded activations on the card: the formula of package
// kernels/ref, by a kernel that shares nothing with the fast ones but the layout
// of the activations.
func (s *Session) Reference(w *packer.Int4Weight, bias []float32, x *Activations, a packer.Arithmetic, at Sample) ([]float64, error) {
	packed, err := s.PackOnDevice(w, packer.Exact, bias) // for its channel factors
	if err != nil {
		return nil, err
	}
	defer func() { _ = packed.Free(s) }()
	_, s8 := w.Split()
	codes, err := AllocOf(s, w.Codes)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Free(codes) }()
	eighths, err := AllocOf(s, eighthsOf(s8))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Free(eighths) }()
	y := make([]float64, at.Rows*at.Columns)
	out, err := s.Alloc(8 * len(y))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Free(out) }()
	argument := &referenceArgument{
		Codes: codes.Address, Eighths: eighths.Address, Channel: packed.Channel.Address, Bias: packed.Bias.Address,
		X: x.Codes.Address, Token: x.Token.Address, Y: out.Address,
		K: int32(w.K), Group: int32(w.GroupSize), XRows: int32(x.Rows),
		Rows: int32(at.Rows), Columns: int32(at.Columns), Row0: int32(at.Row0), RowStep: int32(at.RowStep),
		Column0: int32(at.Column0), ColumnStep: int32(at.ColumnStep),
	}
	if a == packer.LUT {
		argument.Table = 1
	}
	l := Launch{Grid: Dim{X: ceilDiv(at.Columns, 128), Y: at.Rows}, Threads: 128}
	if err := launch(s, "reference_w4a8", l, argument, fmt.Sprintf("M %d, N %d, K %d", x.M, w.N, w.K)); err != nil {
		return nil, err
	}
	return y, Download(s, y, out)
}

// eighthsOf is e4m3(s8/8), what the units hold.
func eighthsOf(s8 []uint8) []uint8 {
	e := make([]uint8, len(s8))
	for i, b := range s8 {
		e[i] = tensor.E4M3(tensor.E4M3Value(b) / 8)
	}
	return e
}
