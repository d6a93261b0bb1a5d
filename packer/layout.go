package packer

import (
	"encoding/binary"
	"slices"

	"quantize/checkpoint"
	"quantize/tensor"
)

// layout lists the tensors that replace P.weight of a linear under scheme s.
func (s Scheme) layout(l LinearShape, groupSize int) []checkpoint.Info {
	if s == FP8 {
		return []checkpoint.Info{
			{Name: l.Name + weightSuffix, DType: tensor.F8E4M3, Shape: []int{l.N, l.K}},
			{Name: l.Name + scaleSuffix, DType: tensor.F32, Shape: []int{l.N, 1}},
		}
	}
	return []checkpoint.Info{
		{Name: l.Name + packedSuffix, DType: tensor.I32, Shape: []int{l.N, l.K / 8}},
		{Name: l.Name + scaleSuffix, DType: tensor.BF16, Shape: []int{l.N, l.K / groupSize}},
		{Name: l.Name + shapeSuffix, DType: tensor.I64, Shape: []int{2}},
	}
}

// stored is one tensor ready to be written.
type stored struct {
	name string
	data []byte
}

// serialize gives the bytes of the tensors of layout.
func serialize(module string, w Weight) []stored {
	switch w := w.(type) {
	case *Int4Weight:
		codes := make([]byte, 0, 4*len(w.Codes))
		for _, c := range w.Codes {
			codes = binary.LittleEndian.AppendUint32(codes, c)
		}
		scales := make([]byte, 0, 2*len(w.Scales))
		for _, s := range w.Scales {
			scales = binary.LittleEndian.AppendUint16(scales, s)
		}
		shape := binary.LittleEndian.AppendUint64(nil, uint64(w.N))
		shape = binary.LittleEndian.AppendUint64(shape, uint64(w.K))
		return []stored{{module + packedSuffix, codes}, {module + scaleSuffix, scales}, {module + shapeSuffix, shape}}
	case *FP8Weight:
		scales := make([]byte, 4*len(w.Scales))
		if err := tensor.Encode(scales, w.Scales, tensor.F32); err != nil {
			panic("packer: cannot encode FP32 scales")
		}
		return []stored{{module + weightSuffix, w.Codes}, {module + scaleSuffix, scales}}
	default:
		panic("packer: unknown kind of weight")
	}
}

func sameInfo(a, b checkpoint.Info) bool {
	return a.Name == b.Name && a.DType == b.DType && slices.Equal(a.Shape, b.Shape)
}
