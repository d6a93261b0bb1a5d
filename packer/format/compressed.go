package format

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"quantize/checkpoint"
	"quantize/packer"
	"quantize/tensor"
)

// Compressed is compressed-tensors with one scheme: what package packer writes,
// and FP8 in blocks, which it does not (docs/formats.md 4.1, 4.2).
//
//	INT4        weight_packed I32 (N, K/8)  weight_scale BF16 (N, K/g)   weight_shape I64 (2)
//	FP8         weight F8_E4M3 (N, K)       weight_scale F32 (N, 1)
//	FP8 blocks  weight F8_E4M3 (N, K)       weight_scale F32 (⌈N/128⌉, ⌈K/128⌉)
type Compressed struct {
	Scheme    packer.Scheme // unset: FP8 blocks
	GroupSize int           // of the INT4 schemes
}

// Name is "compressed-tensors".
func (f Compressed) Name() string { return packer.QuantMethod }

func (f Compressed) int4() bool { return f.Scheme == packer.W4A8 || f.Scheme == packer.W4A16 }

// Fields lists the tensors of the scheme.
func (f Compressed) Fields(n, k int) []Field {
	switch {
	case f.int4():
		return []Field{
			{Suffix: ".weight_packed", DTypes: []tensor.DType{tensor.I32}, Shape: []int{n, k / 8}},
			{Suffix: ".weight_scale", DTypes: []tensor.DType{tensor.BF16}, Shape: []int{n, k / f.GroupSize}},
			{Suffix: ".weight_shape", DTypes: []tensor.DType{tensor.I64}, Shape: []int{2}},
		}
	case f.Scheme == packer.FP8:
		return fp8Fields(n, k, ".weight_scale", n, 1)
	default:
		return fp8Fields(n, k, ".weight_scale", blocks(n), blocks(k))
	}
}

// Pack takes INT4 groups whose scales BF16 has, or FP8.
func (f Compressed) Pack(weight packer.Weight) ([]Part, error) {
	switch w := weight.(type) {
	case *packer.FP8Weight:
		if f.Scheme == packer.FP8 {
			return packFP8(w.Codes, w.Scales)
		}
	case *FP8BlockWeight:
		if f.Scheme == 0 {
			return packFP8(w.Codes, w.Scales)
		}
	default:
		if f.int4() {
			return f.packInt4(weight)
		}
	}
	return nil, otherKind(f, weight, "weights of the checkpoint's one scheme")
}

func (f Compressed) packInt4(weight packer.Weight) ([]Part, error) {
	w, err := take(f, weight, f.GroupSize)
	if err != nil {
		return nil, err
	}
	if w.Zeros != nil {
		return nil, refuse(f.Name(), "zero points", "symmetric weights", "")
	}
	scales := make([]byte, 0, 2*len(w.Scales))
	for i, s := range w.Scales {
		bits := tensor.BF16Bits(s)
		if tensor.BF16Value(bits) != s && !w.empty(i) {
			groups := w.K / w.GroupSize
			return nil, refuse(f.Name()+" scales", fmt.Sprintf("row %d, group %d: %g", i/groups, i%groups, s), "values of BF16", "")
		}
		scales = binary.LittleEndian.AppendUint16(scales, bits)
	}
	codes := make([]byte, 4*len(w.Codes))
	for i, c := range w.Codes {
		binary.LittleEndian.PutUint32(codes[4*i:], c)
	}
	shape := binary.LittleEndian.AppendUint64(nil, uint64(w.N))
	return []Part{{tensor.I32, codes}, {tensor.BF16, scales}, {tensor.I64, binary.LittleEndian.AppendUint64(shape, uint64(w.K))}}, nil
}

// Unpack gives a [packer.Int4Weight], a [packer.FP8Weight] or an [FP8BlockWeight].
func (f Compressed) Unpack(n, k int, parts []Part) (packer.Weight, error) {
	switch {
	case f.Scheme == packer.FP8:
		return FP8Rows{}.Unpack(n, k, parts)
	case f.Scheme == 0:
		return FP8Block{}.Unpack(n, k, parts)
	case k%f.GroupSize != 0 || f.GroupSize%8 != 0:
		return nil, invalid("group_size", fmt.Sprint(f.GroupSize), fmt.Sprintf("a divisor of the %d input features", k))
	}
	shape := parts[2].Data
	if gotN, gotK := binary.LittleEndian.Uint64(shape), binary.LittleEndian.Uint64(shape[8:]); gotN != uint64(n) || gotK != uint64(k) {
		return nil, invalid("weight_shape", fmt.Sprintf("[%d, %d]", gotN, gotK), fmt.Sprintf("[%d, %d]", n, k))
	}
	w := &packer.Int4Weight{N: n, K: k, GroupSize: f.GroupSize, FP8Activations: f.Scheme == packer.W4A8, Codes: make([]uint32, n*k/8), Scales: make([]uint16, n*k/f.GroupSize)}
	for i := range w.Codes {
		w.Codes[i] = binary.LittleEndian.Uint32(parts[0].Data[4*i:])
	}
	for i := range w.Scales {
		w.Scales[i] = binary.LittleEndian.Uint16(parts[1].Data[2*i:])
	}
	return w, grouped(w).validate()
}

// Files gives config.json, and beside W4A8 the weight-only w4a16/config.json.
func (f Compressed) Files(source []byte, d Description) (map[string][]byte, error) {
	files := map[string][]byte{}
	put := func(path string, q *packer.QuantizationConfig) error {
		if d.FP8KV {
			q.KVCacheScheme = packer.KVScheme{Format: packer.KVFP8}.CacheScheme()
		}
		data, err := packer.WithQuantizationConfig(source, q)
		files[path] = data
		return err
	}
	config := f.config(f.Scheme, d.patterns())
	if err := put(configFile, config); err != nil {
		return nil, err
	}
	if f.Scheme == packer.W4A8 {
		return files, put("w4a16/"+configFile, f.config(packer.W4A16, d.patterns()))
	}
	return files, nil
}

func (f Compressed) config(s packer.Scheme, ignored []string) *packer.QuantizationConfig {
	if s != 0 {
		return s.Config(f.GroupSize, ignored)
	}
	q := packer.FP8.Config(0, ignored)
	group, g := q.ConfigGroups["group_0"], block
	group.Weights.Strategy, group.Weights.BlockStructure = "block", json.RawMessage("[128, 128]")
	group.InputActivations.Strategy, group.InputActivations.GroupSize = packer.StrategyGroup, &g
	return q
}

// InBlocks reports whether r is compressed-tensors' FP8 in blocks, which [Verify] of this
// package checks and that of package packer does not know.
func InBlocks(r *checkpoint.Reader) bool {
	f, _, err := detect(r)
	c, ok := f.(Compressed)
	return err == nil && ok && c.Scheme == 0
}

// parseCompressed accepts configurations with one scheme.
func parseCompressed(config []byte) (Format, *packer.QuantizationConfig, error) {
	q, err := packer.ParseQuantizationConfig(config)
	if err != nil {
		return nil, nil, err
	}
	if len(q.ConfigGroups) != 1 {
		return nil, nil, refuse("quantization_config.config_groups", fmt.Sprintf("%d groups", len(q.ConfigGroups)), "one scheme", "")
	}
	for _, g := range q.ConfigGroups {
		if isBlock(g) {
			return Compressed{}, q, nil
		}
		s, group, err := q.Identify(g)
		if err != nil {
			return nil, nil, err
		}
		return Compressed{s, group}, q, nil
	}
	return nil, nil, nil
}

func isBlock(g *packer.QuantizationScheme) bool {
	w := g.Weights
	var edges []int
	if w == nil || w.Strategy != "block" || w.Type != packer.TypeFloat || w.NumBits != 8 || json.Unmarshal(w.BlockStructure, &edges) != nil {
		return false
	}
	return slices.Equal(edges, []int{block, block})
}
