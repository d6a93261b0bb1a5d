package format

import (
	"fmt"
	"math"

	"quantize/packer"
	"quantize/tensor"
)

// FP8Rows is modelopt's FP8_PER_CHANNEL_PER_TOKEN: the codes and the scales of
// compressed-tensors' FP8_DYNAMIC, the scales without their second dimension.
//
//	weight F8_E4M3 (N, K)   weight_scale F32 (N)
type FP8Rows struct{}

// Name is "modelopt".
func (FP8Rows) Name() string { return "modelopt" }

// Fields lists weight and weight_scale.
func (FP8Rows) Fields(n, k int) []Field { return fp8Fields(n, k, ".weight_scale", n) }

func fp8Fields(n, k int, suffix string, shape ...int) []Field {
	return []Field{
		{Suffix: ".weight", DTypes: []tensor.DType{tensor.F8E4M3}, Shape: []int{n, k}},
		{Suffix: suffix, DTypes: []tensor.DType{tensor.F32, tensor.BF16}, Shape: shape},
	}
}

// Pack takes a [packer.FP8Weight].
func (f FP8Rows) Pack(w packer.Weight) ([]Part, error) {
	fp8, ok := w.(*packer.FP8Weight)
	if !ok {
		return nil, otherKind(f, w, "FP8 with a scale per output channel")
	}
	return packFP8(fp8.Codes, fp8.Scales)
}

// Unpack gives a [packer.FP8Weight].
func (FP8Rows) Unpack(n, k int, parts []Part) (packer.Weight, error) {
	codes, scales, err := unpackFP8(parts, n)
	if err != nil {
		return nil, err
	}
	return &packer.FP8Weight{N: n, K: k, Codes: codes, Scales: scales}, nil
}

// Files writes hf_quant_config.json.
func (FP8Rows) Files(source []byte, d Description) (map[string][]byte, error) {
	return modeloptFiles(source, d, quantization{Algo: "FP8_PER_CHANNEL_PER_TOKEN"})
}

// FP8TensorWeight is an E4M3 weight with one scale, and one of its input.
type FP8TensorWeight struct {
	N, K       int
	Codes      []uint8 // (N, K)
	Scale      float32
	InputScale float32
}

// Shape returns N and K.
func (w *FP8TensorWeight) Shape() (n, k int) { return w.N, w.K }

// ActivationBits is 8.
func (w *FP8TensorWeight) ActivationBits() int { return 8 }

// Decode writes code·scale into dst (N, K).
func (w *FP8TensorWeight) Decode(dst tensor.Matrix, _ packer.Arithmetic) {
	if dst.Rows != w.N || dst.Cols != w.K {
		panic("format: destination of Decode has another shape")
	}
	for n := range w.N {
		for k, c := range w.Codes[n*w.K:][:w.K] {
			dst.Row(n)[k] = tensor.E4M3Value(c) * w.Scale
		}
	}
}

// FP8Static is modelopt's FP8: one scale a weight, one an input.
//
//	weight F8_E4M3 (N, K)   weight_scale F32 ()   input_scale F32 ()
type FP8Static struct{}

// Name is "modelopt".
func (FP8Static) Name() string { return "modelopt" }

// Fields lists weight, weight_scale and input_scale.
func (FP8Static) Fields(n, k int) []Field {
	return append(fp8Fields(n, k, ".weight_scale"), Field{Suffix: ".input_scale", DTypes: []tensor.DType{tensor.F32, tensor.BF16}, Shape: []int{}})
}

// Pack takes an [FP8TensorWeight].
func (f FP8Static) Pack(weight packer.Weight) ([]Part, error) {
	w, ok := weight.(*FP8TensorWeight)
	if !ok {
		return nil, otherKind(f, weight, "FP8 with one scale")
	}
	parts, err := packFP8(w.Codes, []float32{w.Scale})
	return append(parts, Part{tensor.F32, floats([]float32{w.InputScale})}), err
}

// Unpack gives an [FP8TensorWeight].
func (FP8Static) Unpack(n, k int, parts []Part) (packer.Weight, error) {
	codes, scale, err := unpackFP8(parts, 1)
	if err != nil {
		return nil, err
	}
	_, input, err := unpackFP8([]Part{{tensor.F8E4M3, nil}, parts[2]}, 1)
	if err != nil {
		return nil, fmt.Errorf("input_scale: %w", err)
	}
	return &FP8TensorWeight{N: n, K: k, Codes: codes, Scale: scale[0], InputScale: input[0]}, nil
}

// Files writes hf_quant_config.json.
func (FP8Static) Files(source []byte, d Description) (map[string][]byte, error) {
	return modeloptFiles(source, d, quantization{Algo: "FP8"})
}

func packFP8(codes []uint8, scales []float32) ([]Part, error) {
	if err := checkFP8(codes, scales); err != nil {
		return nil, err
	}
	return []Part{{tensor.F8E4M3, codes}, {tensor.F32, floats(scales)}}, nil
}

func unpackFP8(parts []Part, scales int) ([]uint8, []float32, error) {
	s := make([]float32, scales)
	if err := tensor.Decode(s, parts[1].Data, parts[1].DType); err != nil {
		return nil, nil, err
	}
	return parts[0].Data, s, checkFP8(parts[0].Data, s)
}

func checkFP8(codes []uint8, scales []float32) error {
	for i, c := range codes {
		if c&0x7f == 0x7f {
			return invalid(fmt.Sprintf("weight element %d", i), "NaN", "a number")
		}
	}
	for i, s := range scales {
		if !(s > 0 && s <= math.MaxFloat32) {
			return invalid(fmt.Sprintf("scale %d", i), fmt.Sprint(s), "a finite positive scale")
		}
	}
	return nil
}
