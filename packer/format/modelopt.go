package format

import (
	"encoding/binary"
	"fmt"
	"math"

	"quantize/packer"
	"quantize/tensor"
)

// W4A8AWQ is modelopt's W4A8_AWQ.
//
//	weight          U8 (N/2, K)    W[2r, k] in the low nibble, W[2r+1, k] in the high, two's complement
//	weight_scale    F32 (N, K/128)
//	weight_scale_2  F32 ()         input_scale F32 ()
//	pre_quant_scale model dtype (K), optional where runtimes merge layers
type W4A8AWQ struct{}

// Name is "modelopt".
func (W4A8AWQ) Name() string { return "modelopt" }

// Fields lists weight, its scales, input_scale and pre_quant_scale.
func (W4A8AWQ) Fields(n, k int) []Field {
	f32 := []tensor.DType{tensor.F32}
	return []Field{
		{Suffix: ".weight", DTypes: []tensor.DType{tensor.U8}, Shape: []int{n / 2, k}},
		{Suffix: ".weight_scale", DTypes: f32, Shape: []int{n, k / 128}},
		{Suffix: ".weight_scale_2", DTypes: f32, Shape: []int{}},
		{Suffix: ".input_scale", DTypes: f32, Shape: []int{}},
		{Suffix: ".pre_quant_scale", DTypes: []tensor.DType{tensor.BF16, tensor.F16, tensor.F32}, Shape: []int{k}, Optional: true},
	}
}

// Pack takes a [StaticWeight].
func (f W4A8AWQ) Pack(weight packer.Weight) ([]Part, error) {
	w, ok := weight.(*StaticWeight)
	if !ok {
		return nil, otherKind(f, weight, "INT4 with static FP8 activations (see Static)")
	}
	if w.Zeros != nil {
		return nil, refuse("modelopt W4A8_AWQ", "zero points", "symmetric weights", "")
	}
	if w.N%2 != 0 || w.K%128 != 0 || w.GroupSize != 128 {
		return nil, refuse("modelopt W4A8_AWQ", fmt.Sprintf("(%d, %d) in groups of %d", w.N, w.K, w.GroupSize), "an even N, and K in groups of 128", "")
	}
	if err := w.validate(); err != nil {
		return nil, err
	}
	scales, err := w.halves(f)
	if err != nil {
		return nil, err
	}
	stored := make([]float32, len(scales))
	for i, h := range scales {
		stored[i] = tensor.F16Value(h)
		if q := stored[i] / w.WeightScale2; tensor.F16Value(tensor.F16Bits(q)) != q && !w.empty(i) {
			return nil, refuse("modelopt W4A8_AWQ weight_scale", fmt.Sprintf("row %d, group %d: %g / %g", i/(w.K/128), i%(w.K/128), stored[i], w.WeightScale2),
				"a quotient that is exact in F16, as TensorRT-LLM forms it", "")
		}
	}
	codes := make([]byte, w.N/2*w.K)
	shared(w.N/2, tile, func(from, to int) {
		for r := from; r < to; r++ {
			low, high, out := w.Codes[2*r*w.K/8:][:w.K/8], w.Codes[(2*r+1)*w.K/8:][:w.K/8], codes[r*w.K:][:w.K]
			for j, a := range low {
				b := high[j]
				for i := range 8 {
					out[8*j+i] = uint8(a>>(4*i)&15|b>>(4*i)&15<<4) ^ 0x88 // q+8 to two's complement
				}
			}
		}
	})
	return []Part{
		{tensor.U8, codes},
		{tensor.F32, floats(stored)},
		{tensor.F32, floats([]float32{w.WeightScale2})},
		{tensor.F32, floats([]float32{w.InputScale})},
		{preDType(w), w.PreQuantScale},
	}, nil
}

func preDType(w *StaticWeight) tensor.DType {
	if w.PreQuantScale == nil {
		return tensor.Unset
	}
	return w.DType
}

// Unpack gives a [StaticWeight].
func (W4A8AWQ) Unpack(n, k int, parts []Part) (packer.Weight, error) {
	if n%2 != 0 || k%128 != 0 {
		return nil, refuse("modelopt W4A8_AWQ", fmt.Sprintf("(%d, %d)", n, k), "an even N, and K in groups of 128", "")
	}
	w := &StaticWeight{
		GroupedWeight: GroupedWeight{N: n, K: k, GroupSize: 128, Codes: make([]uint32, n*k/8), Scales: make([]float32, n*k/128)},
		DType:         parts[4].DType, PreQuantScale: parts[4].Data,
	}
	codes := parts[0].Data
	shared(n/2, tile, func(from, to int) {
		for r := from; r < to; r++ {
			for j := range k / 8 {
				var a, b uint32
				for i, c := range codes[r*k+8*j:][:8] {
					c ^= 0x88
					a |= uint32(c&15) << (4 * i)
					b |= uint32(c>>4) << (4 * i)
				}
				w.Codes[2*r*k/8+j], w.Codes[(2*r+1)*k/8+j] = a, b
			}
		}
	})
	var err error
	if err = positive(w.Scales, "weight_scale", parts[1]); err != nil {
		return nil, err
	}
	var scalars [2]float32
	for i, name := range []string{"weight_scale_2", "input_scale"} {
		if err = positive(scalars[i:i+1], name, parts[2+i]); err != nil {
			return nil, err
		}
	}
	w.WeightScale2, w.InputScale = scalars[0], scalars[1]
	if w.PreQuantScale != nil {
		err = positive(make([]float32, k), "pre_quant_scale", parts[4])
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

// positive decodes scales, which have to be finite and above zero.
func positive(dst []float32, name string, p Part) error {
	if err := tensor.Decode(dst, p.Data, p.DType); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for i, s := range dst {
		if !(s > 0 && s <= math.MaxFloat32) {
			return invalid(fmt.Sprintf("%s element %d", name, i), fmt.Sprint(s), "a finite positive scale")
		}
	}
	return nil
}

func floats(x []float32) []byte {
	out := make([]byte, 0, 4*len(x))
	for _, v := range x {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}
