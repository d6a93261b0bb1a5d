package format

import (
	"fmt"
	"math"

	"quantize/packer"
	"quantize/tensor"
)

// GroupedWeight is an INT4 weight (N, K) whose groups have scales of any
// precision and zero points: value = (u - zero)·scale, in FP32. It is what GPTQ and
// AWQ store, and what [packer.Int4Weight] becomes on its way to them.
type GroupedWeight struct {
	N, K, GroupSize int
	Codes           []uint32  // (N, K/8): word j of a row holds k = 8j..8j+7, lowest nibble first, u = 0..15
	Scales          []float32 // (N, K/GroupSize)
	Zeros           []uint8   // (N, K/GroupSize), 0..15; nil: 8 everywhere, a symmetric weight
}

// Shape returns N and K.
func (w *GroupedWeight) Shape() (n, k int) { return w.N, w.K }

// ActivationBits is 16: these formats do not round activations.
func (w *GroupedWeight) ActivationBits() int { return 16 }

// Decode writes (u - zero)·scale into dst (N, K), whatever the arithmetic.
func (w *GroupedWeight) Decode(dst tensor.Matrix, _ packer.Arithmetic) {
	if dst.Rows != w.N || dst.Cols != w.K {
		panic("format: destination of Decode has another shape")
	}
	for n := range w.N {
		row := dst.Row(n)
		for k := range row {
			g := (n*w.K + k) / w.GroupSize
			u := w.Codes[(n*w.K+k)/8] >> (4 * (k % 8)) & 15
			row[k] = float32(int(u)-int(w.zero(g))) * w.Scales[g]
		}
	}
}

func (w *GroupedWeight) zero(g int) uint8 {
	if w.Zeros == nil {
		return 8
	}
	return w.Zeros[g]
}

// empty reports that all codes of group g decode to zero whatever its scale.
func (w *GroupedWeight) empty(g int) bool {
	z := uint32(w.zero(g)) * 0x11111111
	for _, c := range w.Codes[g*w.GroupSize/8:][:w.GroupSize/8] {
		if c != z {
			return false
		}
	}
	return true
}

// grouped gives an INT4 weight as groups, sharing its codes; nil when w is of
// another kind.
func grouped(w packer.Weight) *GroupedWeight {
	switch w := w.(type) {
	case *GroupedWeight:
		return w
	case *StaticWeight:
		return &w.GroupedWeight
	case *packer.Int4Weight:
		g := &GroupedWeight{N: w.N, K: w.K, GroupSize: w.GroupSize, Codes: w.Codes, Scales: make([]float32, len(w.Scales))}
		for i, s := range w.Scales {
			g.Scales[i] = tensor.BF16Value(s)
		}
		return g
	default:
		return nil
	}
}

// validate checks what the formats share.
func (w *GroupedWeight) validate() error {
	for i, s := range w.Scales {
		if !(s > 0 && s <= math.MaxFloat32) {
			return invalid(fmt.Sprintf("scale of row %d, group %d", i/(w.K/w.GroupSize), i%(w.K/w.GroupSize)), fmt.Sprint(s), "a finite positive scale")
		}
	}
	return nil
}

// symmetric drops zero points that are all 8.
func (w *GroupedWeight) symmetric() {
	for _, z := range w.Zeros {
		if z != 8 {
			return
		}
	}
	w.Zeros = nil
}

// halves gives the scales in F16. A group whose weights are all zero takes the
// nearest positive one, since its scale multiplies nothing; of the others each
// scale has to be exact.
func (w *GroupedWeight) halves(f Format) ([]uint16, error) {
	out := make([]uint16, len(w.Scales))
	lost, first := 0, 0
	for i, s := range w.Scales {
		h := tensor.F16Bits(s)
		if tensor.F16Value(h) != s {
			if w.empty(i) {
				h = min(max(h, smallestF16), largestF16)
			} else {
				if lost == 0 {
					first = i
				}
				lost++
			}
		}
		out[i] = h
	}
	if lost > 0 {
		groups := w.K / w.GroupSize
		return nil, refuse(f.Name()+" scales", fmt.Sprintf("%d of %d that are not exact in F16, first row %d, group %d: %g", lost, len(out), first/groups, first%groups, w.Scales[first]),
			"values of F16, as BF16 scales from 2^-17 to 65504 are", "leave the layer unquantized, or ship the compressed-tensors checkpoint")
	}
	return out, nil
}

const (
	smallestF16 = 0x0400 // 2^-14, so that nothing divides by a subnormal
	largestF16  = 0x7bff // 65504
)

// same demands that two weights multiply the same: equal codes, zero points and,
// where a group is not all zeros, equal scales, bit for bit.
func (w *GroupedWeight) same(o *GroupedWeight) error {
	if w.N != o.N || w.K != o.K || w.GroupSize != o.GroupSize {
		return fmt.Errorf("(%d, %d) in groups of %d, not (%d, %d) in groups of %d", o.N, o.K, o.GroupSize, w.N, w.K, w.GroupSize)
	}
	for i, c := range w.Codes {
		if o.Codes[i] != c {
			return fmt.Errorf("row %d, codes %d to %d: %08x, not %08x", 8*i/w.K, 8*i%w.K, 8*i%w.K+7, o.Codes[i], c)
		}
	}
	for i, s := range w.Scales {
		groups := w.K / w.GroupSize
		if w.zero(i) != o.zero(i) {
			return fmt.Errorf("row %d, group %d: zero point %d, not %d", i/groups, i%groups, o.zero(i), w.zero(i))
		}
		if math.Float32bits(o.Scales[i]) != math.Float32bits(s) && !w.empty(i) {
			return fmt.Errorf("row %d, group %d: scale %g, not %g", i/groups, i%groups, o.Scales[i], s)
		}
	}
	return nil
}
