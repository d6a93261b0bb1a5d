package checkpoint

import (
	"fmt"
	"math"

	"quantize/internal/fault"
	"quantize/tensor"
)

// Finite reads a floating-point tensor in small pieces and demands what
// [Reader.Matrix] does of its values: neither NaN nor infinity.
func (r *Reader) Finite(name string) error {
	l, err := r.find(name)
	if err != nil {
		return err
	}
	check, err := newFinite(l.Info, tensorIn(name, r.root.path(l.shard.File)))
	if err != nil {
		return err
	}
	buf := make([]byte, min(chunk, l.Bytes()))
	for at := int64(0); at < l.Bytes(); at += chunk {
		part := buf[:min(chunk, l.Bytes()-at)]
		if err := r.readAt(l, part, at); err != nil {
			return err
		}
		if err := check.piece(part, at); err != nil {
			return err
		}
	}
	return nil
}

// CheckFinite is [Reader.Finite] of encoded values at hand, from byte offset of the
// tensor on: a finite number may be beyond the range of the dtype it is stored in.
func CheckFinite(info Info, data []byte, offset int64) error {
	check, err := newFinite(info, "tensor "+quote(info.Name))
	for at := 0; at < len(data) && err == nil; at += chunk {
		err = check.piece(data[at:min(at+chunk, len(data))], offset+int64(at))
	}
	return err
}

// finite looks at a tensor that passes by in pieces of at most chunk bytes.
type finite struct {
	info   Info
	where  string
	values []float32
}

func newFinite(info Info, where string) (*finite, error) {
	if !info.DType.IsFloat() {
		return nil, notFloat(where, info.DType)
	}
	return &finite{info: info, where: where, values: make([]float32, min(chunk, info.Bytes())/int64(info.DType.Bytes()))}, nil
}

// piece checks the bytes at that offset of the tensor.
func (f *finite) piece(part []byte, offset int64) error {
	item := f.info.DType.Bytes()
	x := f.values[:len(part)/item]
	if err := tensor.Decode(x, part, f.info.DType); err != nil {
		panic("checkpoint: a checked dtype does not decode")
	}
	i := notFinite(x)
	if i < 0 {
		return nil
	}
	at, cols := int(offset)/item+i, 1
	if n := len(f.info.Shape); n > 0 {
		cols = f.info.Shape[n-1]
	}
	return infinite(f.where, x[i], at, cols)
}

func infinite(where string, v float32, i, cols int) error {
	return &fault.Error{
		Err: ErrInvalid, Where: where,
		Found:  fmt.Sprintf("%v at element %d (row %d, column %d)", v, i, i/cols, i%cols),
		Wanted: "finite weights", Hint: "the checkpoint is damaged, or was saved after training diverged",
	}
}

func notFloat(where string, d tensor.DType) error {
	return &fault.Error{
		Err: ErrInvalid, Where: where, Found: "dtype " + d.String(), Wanted: "a floating-point dtype",
		Hint: "is the checkpoint quantized already?",
	}
}

// notFinite is the index of the first NaN or infinity, -1 without one.
func notFinite(x []float32) int {
	const exponent = 0x7F800000
	var seen uint32
	for _, v := range x {
		// The carry into bit 31 marks an exponent of all ones.
		seen |= math.Float32bits(v)&exponent + 1<<23
	}
	if seen>>31 == 0 {
		return -1
	}
	for i, v := range x {
		if math.Float32bits(v)&exponent == exponent {
			return i
		}
	}
	panic("checkpoint: no infinity found again")
}
