package kerneltest

import (
	"math"
	"slices"
	"testing"

	"quantize/tensor"
)

const (
	guardWords = 67         // on both sides; odd, so that no operand is aligned to a vector
	guardBits  = 0x7FA5C3E1 // a NaN nobody computes
)

// operand is a matrix between guard words, its rows padded with them.
type operand struct {
	tensor.Matrix
	all    []float32
	before []float32 // a copy of all, made by freeze
}

// newOperand returns a rows x cols operand whose rows are cols+pad apart, all
// of it the guard NaN.
func newOperand(rows, cols, pad int) *operand {
	stride := cols + pad
	o := &operand{all: make([]float32, rows*stride+2*guardWords)}
	for i := range o.all {
		o.all[i] = math.Float32frombits(guardBits)
	}
	o.Matrix = tensor.Matrix{Rows: rows, Cols: cols, Stride: stride}
	if rows > 0 {
		o.Data = o.all[guardWords : guardWords+(rows-1)*stride+cols]
	}
	return o
}

// fill sets the elements of o, row by row, and freezes it.
func (o *operand) fill(set func(row []float32)) *operand {
	for i := range o.Rows {
		set(o.Row(i))
	}
	return o.freeze()
}

func (o *operand) freeze() *operand {
	o.before = slices.Clone(o.all)
	return o
}

// unchanged reports any word of an input that differs from when it was frozen.
func (o *operand) unchanged(t *testing.T, name string) {
	t.Helper()
	for i, v := range o.all {
		if math.Float32bits(v) != math.Float32bits(o.before[i]) {
			t.Fatalf("%s: input changed at word %d", name, i-guardWords)
		}
	}
}

// contained reports a guard word of an output, between rows or around, that was
// written.
func (o *operand) contained(t *testing.T, name string) {
	t.Helper()
	for i, v := range o.all {
		at := i - guardWords
		inside := o.Rows > 0 && at >= 0 && at < o.Rows*o.Stride && at%o.Stride < o.Cols
		if !inside && math.Float32bits(v) != guardBits {
			t.Fatalf("%s: wrote outside the output, at word %d of %dx%d, stride %d", name, at, o.Rows, o.Cols, o.Stride)
		}
	}
}
