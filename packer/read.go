package packer

import (
	"encoding/binary"
	"fmt"
	"math"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/tensor"
)

// The tensors of a quantized module P.
const (
	packedSuffix = ".weight_packed"
	scaleSuffix  = ".weight_scale"
	shapeSuffix  = ".weight_shape"
	weightSuffix = ".weight"
)

// ReadWeight reads the quantized weight of a linear module, named without
// ".weight", as q describes it. It returns nil and no error when q is nil or
// does not quantize the module. A scheme other than those of [Scheme], a missing
// tensor, another dtype or shape, NaN codes and scales that are negative or not
// finite are ErrInvalid.
func ReadWeight(r *checkpoint.Reader, module string, q *QuantizationConfig) (Weight, error) {
	s, err := q.Scheme(module)
	if s == nil || err != nil {
		return nil, err
	}
	kind, group, err := q.Identify(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", module, err)
	}
	if kind == FP8 {
		return readFP8(r, module)
	}
	return readInt4(r, module, group, kind == W4A8)
}

// Identify says which scheme a group of the configuration is, and its group size.
func (q *QuantizationConfig) Identify(s *QuantizationScheme) (Scheme, int, error) {
	format := s.Format
	if format == "" {
		format = q.Format
	}
	a, w := s.InputActivations, s.Weights
	perToken := a != nil && a.NumBits == 8 && a.Type == TypeFloat && a.Strategy == StrategyToken && a.Dynamic == DynamicYes && a.Symmetric
	stored := w != nil && w.Dynamic == DynamicNo && w.Symmetric && s.OutputActivations == nil
	int4 := stored && w.Type == TypeInt && w.NumBits == 4 && w.Strategy == StrategyGroup && (w.ActOrder == nil || *w.ActOrder == "weight" || *w.ActOrder == "static")
	fp8 := stored && w.Type == TypeFloat && w.NumBits == 8 && w.Strategy == StrategyChannel
	switch {
	case format == FormatPackQuantized && int4 && perToken:
		return W4A8, *w.GroupSize, nil
	case format == FormatPackQuantized && int4 && a == nil:
		return W4A16, *w.GroupSize, nil
	case format == FormatFloatQuantized && fp8 && perToken:
		return FP8, 0, nil
	}
	found := string(format)
	if w != nil {
		found += fmt.Sprintf(", weights %s%d %s", w.Type, w.NumBits, w.Strategy)
	}
	if a != nil {
		found += fmt.Sprintf(", activations %s%d %s", a.Type, a.NumBits, a.Strategy)
	}
	return 0, 0, badConfig("quantization_config", found,
		"pack-quantized symmetric INT4 groups with FP8 tokens or no activations, or float-quantized FP8 channels with FP8 tokens")
}

// tensors is where the parts of a weight are read; *checkpoint.Reader is one.
type tensors interface {
	Info(name string) (checkpoint.Info, error)
	Raw(name string, buf []byte) ([]byte, error)
}

func readInt4(r tensors, module string, group int, fp8 bool) (Weight, error) {
	packed, err := r.Info(module + packedSuffix)
	if err != nil {
		return nil, err
	}
	if packed.DType != tensor.I32 || len(packed.Shape) != 2 || packed.Shape[0] == 0 || packed.Shape[1] == 0 || packed.Shape[1] > math.MaxInt/8 {
		return nil, badTensor(packed, "I32 [N, K/8]")
	}
	n, k := packed.Shape[0], packed.Shape[1]*8
	if k%group != 0 || group%8 != 0 {
		return nil, badTensor(packed, fmt.Sprintf("K/8 words of whole groups of %d", group))
	}
	w := &Int4Weight{N: n, K: k, GroupSize: group, FP8Activations: fp8}
	shape, err := readTensor(r, module+shapeSuffix, tensor.I64, 2)
	if err != nil {
		return nil, err
	}
	if gotN, gotK := binary.LittleEndian.Uint64(shape), binary.LittleEndian.Uint64(shape[8:]); gotN != uint64(n) || gotK != uint64(k) {
		return nil, &fault.Error{Err: ErrInvalid, Where: module + shapeSuffix, Found: fmt.Sprintf("[%d, %d]", gotN, gotK), Wanted: fmt.Sprintf("[%d, %d], as the packed codes have", n, k)}
	}
	scales, err := readTensor(r, module+scaleSuffix, tensor.BF16, n, k/group)
	if err != nil {
		return nil, err
	}
	codes, err := readTensor(r, module+packedSuffix, tensor.I32, n, k/8)
	if err != nil {
		return nil, err
	}
	w.Scales = make([]uint16, len(scales)/2)
	for i := range w.Scales {
		w.Scales[i] = binary.LittleEndian.Uint16(scales[2*i:])
		if s := tensor.BF16Value(w.Scales[i]); !(s >= 0 && s <= math.MaxFloat32) {
			return nil, badScale(module+scaleSuffix, i, s)
		}
	}
	w.Codes = make([]uint32, len(codes)/4)
	for i := range w.Codes {
		w.Codes[i] = binary.LittleEndian.Uint32(codes[4*i:])
	}
	return w, nil
}

func readFP8(r tensors, module string) (Weight, error) {
	info, err := r.Info(module + weightSuffix)
	if err != nil {
		return nil, err
	}
	if info.DType != tensor.F8E4M3 || len(info.Shape) != 2 {
		return nil, badTensor(info, "F8_E4M3 [N, K]")
	}
	w := &FP8Weight{N: info.Shape[0], K: info.Shape[1]}
	scale, err := r.Info(module + scaleSuffix)
	if err != nil {
		return nil, err
	}
	if scale.DType != tensor.F32 && scale.DType != tensor.BF16 {
		return nil, badTensor(scale, fmt.Sprintf("F32 or BF16 [%d, 1]", w.N))
	}
	raw, err := readTensor(r, scale.Name, scale.DType, w.N, 1)
	if err != nil {
		return nil, err
	}
	w.Scales = make([]float32, w.N)
	if err := tensor.Decode(w.Scales, raw, scale.DType); err != nil {
		return nil, fmt.Errorf("%s: %w", scale.Name, err)
	}
	for i, s := range w.Scales {
		if !(s >= 0 && s <= math.MaxFloat32) {
			return nil, badScale(scale.Name, i, s)
		}
	}
	if w.Codes, err = readTensor(r, info.Name, tensor.F8E4M3, w.N, w.K); err != nil {
		return nil, err
	}
	for i, c := range w.Codes {
		if c&0x7f == 0x7f {
			return nil, &fault.Error{Err: ErrInvalid, Where: fmt.Sprintf("%s element %d", info.Name, i), Found: "NaN", Wanted: "a number"}
		}
	}
	return w, nil
}

// readTensor reads the bytes of a tensor that must have that dtype and shape.
func readTensor(r tensors, name string, d tensor.DType, shape ...int) ([]byte, error) {
	info, err := r.Info(name)
	if err != nil {
		return nil, err
	}
	want := checkpoint.Info{Name: name, DType: d, Shape: shape}
	if !sameInfo(info, want) {
		return nil, badTensor(info, describeInfo(want))
	}
	return r.Raw(name, nil)
}

func badTensor(found checkpoint.Info, wanted string) error {
	return &fault.Error{Err: ErrInvalid, Where: found.Name, Found: describeInfo(found), Wanted: wanted}
}

func badScale(name string, i int, s float32) error {
	return &fault.Error{Err: ErrInvalid, Where: fmt.Sprintf("%s element %d", name, i), Found: fmt.Sprint(s), Wanted: "a finite scale >= 0"}
}

func describeInfo(i checkpoint.Info) string { return fmt.Sprintf("%v %v", i.DType, i.Shape) }
