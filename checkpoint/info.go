package checkpoint

import (
	"errors"
	"math"
	"math/bits"
	"slices"

	"quantize/tensor"
)

// ErrInvalid says that a checkpoint, or a request made of one, is wrong.
var ErrInvalid = errors.New("invalid checkpoint")

// ErrOutput says that the output cannot be written: it exists, is not
// writable, or the disk is full. The cause is wrapped beside it.
var ErrOutput = errors.New("cannot write output")

// Info describes a tensor: row-major, little endian. A scalar has no dimension
// and one element.
type Info struct {
	Name  string
	DType tensor.DType
	Shape []int
}

// Elements is the product of the dimensions.
func (i Info) Elements() int64 {
	n, _ := size(i.Shape, 1)
	return n
}

// Bytes is the size of the data.
func (i Info) Bytes() int64 {
	n, _ := size(i.Shape, i.DType.Bytes())
	return n
}

// size multiplies the dimensions and the item size; ok is false when one is
// negative or the product leaves int64.
func size(shape []int, item int) (n int64, ok bool) {
	p, ok := uint64(item), item >= 0
	for _, d := range shape {
		hi, lo := bits.Mul64(p, uint64(d))
		ok = ok && d >= 0 && hi == 0 && lo <= math.MaxInt64
		p = lo
	}
	return int64(p), ok
}

func (i Info) clone() Info {
	i.Shape = slices.Clone(i.Shape)
	return i
}
