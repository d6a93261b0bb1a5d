package format

import (
	"fmt"
	"math"

	"quantize/packer"
	"quantize/tensor"
)

// StaticWeight is a W4A8 weight for TensorRT-LLM (docs/formats.md 11.2): INT4
// groups, and activations that are rounded with one scale found beforehand,
//
//	x8 = e4m3(x·PreQuantScale / InputScale)
//	y  = (x8 · e4m3(q·s/WeightScale2)ᵀ) · InputScale·WeightScale2
//
// The loader takes s to F16 first and divides then, in F16: both have to be exact.
type StaticWeight struct {
	GroupedWeight
	WeightScale2  float32 // of the layer and those merged with it
	InputScale    float32 // likewise
	PreQuantScale []byte  // (K) in DType; nil: none
	DType         tensor.DType
}

// ActivationBits is 8.
func (w *StaticWeight) ActivationBits() int { return 8 }

// unscaled reports that activations enter as they are.
func (w *StaticWeight) unscaled() bool {
	x := make([]float32, w.K)
	if w.PreQuantScale == nil {
		return true
	}
	if err := tensor.Decode(x, w.PreQuantScale, w.DType); err != nil {
		return false
	}
	for _, v := range x {
		if v != 1 {
			return false
		}
	}
	return true
}

// Static makes a StaticWeight of INT4 groups of 128. largest is the largest
// group scale of the layer and those that runtimes merge with it; amax is the
// largest magnitude of their input; ones asks for a PreQuantScale of ones in
// dtype, which the loader demands of o_proj and down_proj.
//
// modelopt takes amax(W)/448 for WeightScale2. Here it is the power of two at or
// above 8·largest/448: the division that the loader does in F16 is then exact.
func Static(w *packer.Int4Weight, largest, amax float32, ones bool, dtype tensor.DType) (*StaticWeight, error) {
	g := grouped(w)
	switch {
	case w.GroupSize != 128:
		return nil, refuse("modelopt W4A8_AWQ", fmt.Sprintf("groups of %d", w.GroupSize), "groups of 128", "")
	case !w.FP8Activations:
		return nil, refuse("modelopt W4A8_AWQ", "a weight-only checkpoint", "one whose activations are rounded to FP8 (scheme W4A8_FP8)", "")
	case !(amax >= 0 && amax <= math.MaxFloat32):
		return nil, invalid("largest activation", fmt.Sprint(amax), "a finite number >= 0")
	}
	s := &StaticWeight{GroupedWeight: *g, WeightScale2: powerOfTwo(largest * 8 / 448), InputScale: max(amax/448, 1.0/(448*512)), DType: dtype}
	if ones {
		one := make([]float32, w.K)
		for i := range one {
			one[i] = 1
		}
		s.PreQuantScale = make([]byte, w.K*dtype.Bytes())
		if err := tensor.Encode(s.PreQuantScale, one, dtype); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// powerOfTwo returns the smallest power of two that is not below x.
func powerOfTwo(x float32) float32 {
	f, e := math.Frexp(float64(x))
	if f == 0.5 {
		e--
	}
	return float32(math.Ldexp(1, e))
}
