package kernels

import (
	"errors"
	"fmt"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/packer"
)

// ErrUnsupported is the sentinel of everything a backend cannot compute.
var ErrUnsupported = errors.New("not supported by this backend")

// Backend is the arithmetic of a forward pass over full-precision and
// quantized weights. kernels/ref and kernels/cpu implement it.
type Backend interface {
	model.Compute
	// QuantLinear makes a linear from stored codes and scales; a says which
	// product is formed when w's scheme rounds activations to FP8 (a weight
	// with 16-bit activations has one meaning: packer.WeightOnly). bias has
	// length N or is nil and may be reused afterwards; w must not change.
	// It returns ErrUnsupported for a weight it cannot multiply.
	QuantLinear(w packer.Weight, a packer.Arithmetic, bias []float32) (model.Linear, error)
}

// CheckWeight is the first step of every QuantLinear. It checks the type of w,
// the lengths of its parts and of bias, and returns the arithmetic to use:
// a, or packer.WeightOnly when w's scheme keeps 16-bit activations.
func CheckWeight(w packer.Weight, a packer.Arithmetic, bias []float32) (packer.Arithmetic, error) {
	switch a {
	case packer.LUT, packer.Exact, packer.WeightOnly:
	default:
		return 0, unsupported(fmt.Sprintf("arithmetic %d", a), "lut, exact or weight-only")
	}
	var n int
	switch w := w.(type) {
	case *packer.Int4Weight:
		if w.N < 1 || w.K < 1 || w.GroupSize < 8 || w.GroupSize%8 != 0 || w.K%w.GroupSize != 0 {
			return 0, unsupported(fmt.Sprintf("INT4 weight (%d, %d) in groups of %d", w.N, w.K, w.GroupSize),
				"a group size that divides K, a multiple of 8")
		}
		if codes, scales := w.N*(w.K/8), w.N*(w.K/w.GroupSize); len(w.Codes) != codes || len(w.Scales) != scales {
			return 0, unsupported(fmt.Sprintf("%d words and %d scales", len(w.Codes), len(w.Scales)),
				fmt.Sprintf("%d and %d for a weight (%d, %d) in groups of %d", codes, scales, w.N, w.K, w.GroupSize))
		}
		n = w.N
	case *packer.FP8Weight:
		if w.N < 1 || w.K < 1 || len(w.Codes) != w.N*w.K || len(w.Scales) != w.N {
			return 0, unsupported(fmt.Sprintf("FP8 weight (%d, %d) with %d codes and %d scales", w.N, w.K, len(w.Codes), len(w.Scales)),
				"N·K codes and N scales")
		}
		n = w.N
	default:
		return 0, unsupported(fmt.Sprintf("weight type %T", w), "INT4 in groups or FP8 per channel")
	}
	if bias != nil && len(bias) != n {
		return 0, unsupported(fmt.Sprintf("a bias of %d elements", len(bias)), fmt.Sprintf("%d", n))
	}
	if w.ActivationBits() == 16 {
		return packer.WeightOnly, nil
	}
	return a, nil
}

func unsupported(found, wanted string) error {
	return &fault.Error{Err: ErrUnsupported, Found: found, Wanted: wanted}
}
