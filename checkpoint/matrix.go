package checkpoint

import (
	"fmt"

	"quantize/internal/fault"
	"quantize/tensor"
)

// chunk is the unit in which tensors are read and copied: it stays in the L2
// cache between reading, decoding and checking. Every item size divides it.
const chunk = 1 << 18

// Matrix reads a floating-point tensor as FP32: (rows, cols) for two
// dimensions, one row for one, 1x1 for a scalar. NaN and infinity are an
// error, also when they come from an F64 beyond FP32.
func (r *Reader) Matrix(name string) (tensor.Matrix, error) {
	return r.rows(name, 0, -1)
}

// Rows reads rows [from, to) of what [Reader.Matrix] would return, and no more
// of the file: a vocabulary-sized matrix need never be in memory as a whole.
func (r *Reader) Rows(name string, from, to int) (tensor.Matrix, error) {
	if from < 0 || to < from {
		panic("checkpoint: bad row range")
	}
	return r.rows(name, from, to)
}

// rows reads [from, to); to < 0 means to the end.
func (r *Reader) rows(name string, from, to int) (tensor.Matrix, error) {
	l, err := r.find(name)
	if err != nil {
		return tensor.Matrix{}, err
	}
	where := tensorIn(name, r.root.path(l.shard.File))
	rows, cols := 1, 1
	switch len(l.Shape) {
	case 0:
	case 1:
		cols = l.Shape[0]
	case 2:
		rows, cols = l.Shape[0], l.Shape[1]
	default:
		return tensor.Matrix{}, &fault.Error{Err: ErrInvalid, Where: where, Found: fmt.Sprintf("shape %v", l.Shape), Wanted: "one or two dimensions"}
	}
	if !l.DType.IsFloat() {
		return tensor.Matrix{}, notFloat(where, l.DType)
	}
	if l.Elements() == 0 {
		return tensor.Matrix{}, &fault.Error{Err: ErrInvalid, Where: where, Found: fmt.Sprintf("shape %v", l.Shape), Wanted: "at least one element"}
	}
	if to < 0 {
		to = rows
	}
	if to > rows {
		return tensor.Matrix{}, &fault.Error{Err: ErrInvalid, Where: where, Found: fmt.Sprintf("shape %v", l.Shape), Wanted: fmt.Sprintf("at least %d rows", to)}
	}
	m := tensor.NewMatrix(to-from, cols)
	first, item := from*cols, l.DType.Bytes()
	buf := make([]byte, min(chunk, len(m.Data)*item))
	for at := 0; at < len(m.Data); at += chunk / item {
		part := m.Data[at:min(at+chunk/item, len(m.Data))]
		raw := buf[:len(part)*item]
		if err := r.readAt(l, raw, int64(first+at)*int64(item)); err != nil {
			return tensor.Matrix{}, err
		}
		if err := tensor.Decode(part, raw, l.DType); err != nil {
			panic("checkpoint: a checked dtype does not decode")
		}
		if i := notFinite(part); i >= 0 {
			return tensor.Matrix{}, infinite(where, part[i], first+at+i, cols)
		}
	}
	return m, nil
}
