package format

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"regexp"

	"quantize/packer"
	"quantize/tensor"
)

// GPTQ is the layout of AutoGPTQ and GPTQModel with four bits (docs/formats.md 9).
//
//	qweight  I32 (K/8, N)    word (r, n): k = 8r .. 8r+7 of row n, lowest nibble first, u = 0..15
//	qzeros   I32 (K/g, N/8)  word (G, c): n = 8c .. 8c+7, zero - 1 (version 1) or zero (version 2)
//	scales   F16 (K/g, N)
//	g_idx    I32 (K)         the group of each k; k/g, since groups in another order are refused
type GPTQ struct {
	GroupSize int
	// V2 is checkpoint_format "gptq_v2": zero points as they are. Version 1, which
	// every reader knows, stores zero - 1 and cannot hold zero = 0.
	V2 bool
}

// Name is "gptq".
func (f GPTQ) Name() string { return "gptq" }

// Fields lists qweight, qzeros, scales and g_idx.
func (f GPTQ) Fields(n, k int) []Field {
	groups := k / f.GroupSize
	return []Field{
		{Suffix: ".qweight", DTypes: []tensor.DType{tensor.I32}, Shape: []int{k / 8, n}},
		{Suffix: ".qzeros", DTypes: []tensor.DType{tensor.I32}, Shape: []int{groups, n / 8}},
		{Suffix: ".scales", DTypes: []tensor.DType{tensor.F16, tensor.BF16}, Shape: []int{groups, n}},
		{Suffix: ".g_idx", DTypes: []tensor.DType{tensor.I32}, Shape: []int{k}, Optional: true},
	}
}

// fit demands dimensions that the fields divide.
func fit(f Format, n, k, group int) error {
	switch {
	case group != 32 && group != 64 && group != 128:
		return refuse(f.Name(), fmt.Sprintf("groups of %d", group), "groups of 32, 64 or 128", "")
	case k%group != 0 || n%8 != 0:
		return refuse(f.Name(), fmt.Sprintf("(N, K) = (%d, %d) in groups of %d", n, k, group), "N in eights and K in whole groups", "leave the layer unquantized")
	}
	return nil
}

// take gives an INT4 weight of this format's group size, or refuses.
func take(f Format, w packer.Weight, group int) (*GroupedWeight, error) {
	if s, ok := w.(*StaticWeight); ok && !s.unscaled() {
		return nil, refuse(f.Name(), "pre_quant_scale other than 1", "weights that take the activations as they are", "")
	}
	g := grouped(w)
	if g == nil {
		return nil, otherKind(f, w, "INT4 weights")
	}
	if g.GroupSize != group {
		return nil, refuse(f.Name(), fmt.Sprintf("groups of %d", g.GroupSize), fmt.Sprintf("groups of %d, as the rest of the checkpoint", group), "")
	}
	if err := fit(f, g.N, g.K, group); err != nil {
		return nil, err
	}
	return g, g.validate()
}

// Pack transposes codes, zero points and scales.
func (f GPTQ) Pack(w packer.Weight) ([]Part, error) {
	g, err := take(f, w, f.GroupSize)
	if err != nil {
		return nil, err
	}
	scales, err := g.halves(f)
	if err != nil {
		return nil, err
	}
	groups := g.K / g.GroupSize
	zeros := make([]byte, 4*groups*g.N/8)
	for i := range groups * g.N / 8 {
		var word uint32
		for j := range 8 {
			n, group := i%(g.N/8)*8+j, i/(g.N/8)
			z := uint32(g.zero(n*groups + group))
			if !f.V2 {
				if z == 0 {
					return nil, refuse("gptq", fmt.Sprintf("zero point 0 in row %d, group %d", n, group), "1 to 16: version 1 stores zero - 1 in four bits", "")
				}
				z--
			}
			word |= z << (4 * j)
		}
		binary.LittleEndian.PutUint32(zeros[4*i:], word)
	}
	index := make([]byte, 4*g.K)
	for k := range g.K {
		binary.LittleEndian.PutUint32(index[4*k:], uint32(k/g.GroupSize))
	}
	return []Part{
		{tensor.I32, transposeWords(g.Codes, g.N, g.K/8)},
		{tensor.I32, zeros},
		{tensor.F16, halvesTransposed(scales, g.N, groups)},
		{tensor.I32, index},
	}, nil
}

// Unpack is the inverse of Pack. Groups in another order (desc_act) and zero
// points beyond 15 are ErrRepresent: no other format has them.
func (f GPTQ) Unpack(n, k int, parts []Part) (packer.Weight, error) {
	if err := fit(f, n, k, f.GroupSize); err != nil {
		return nil, err
	}
	if !parts[3].absent() {
		for i := range k {
			if g := binary.LittleEndian.Uint32(parts[3].Data[4*i:]); int(g) != i/f.GroupSize {
				return nil, refuse("gptq g_idx", fmt.Sprintf("input channel %d in group %d", i, g), fmt.Sprintf("group %d", i/f.GroupSize), "groups reordered by act-order have no other format")
			}
		}
	}
	groups := k / f.GroupSize
	w := &GroupedWeight{N: n, K: k, GroupSize: f.GroupSize, Codes: readTransposed(parts[0].Data, n, k/8), Zeros: make([]uint8, n*groups)}
	for i := range groups * n / 8 {
		word := binary.LittleEndian.Uint32(parts[1].Data[4*i:])
		for j := range 8 {
			z := word >> (4 * j) & 15
			row, group := i%(n/8)*8+j, i/(n/8)
			if !f.V2 {
				if z++; z == 16 {
					return nil, refuse("gptq qzeros", fmt.Sprintf("zero point 16 in row %d, group %d", row, group), "0 to 15", "")
				}
			}
			w.Zeros[row*groups+group] = uint8(z)
		}
	}
	w.symmetric()
	var err error
	if w.Scales, err = scalesTransposed(parts[2], n, groups); err != nil {
		return nil, err
	}
	return w, w.validate()
}

// gptqConfig is quantize_config.json, and quantization_config in config.json.
type gptqConfig struct {
	Bits             int                 `json:"bits"`
	CheckpointFormat string              `json:"checkpoint_format"`
	DampPercent      float64             `json:"damp_percent"`
	DescAct          bool                `json:"desc_act"`
	Dynamic          map[string]struct{} `json:"dynamic,omitempty"`
	GroupSize        int                 `json:"group_size"`
	Head             bool                `json:"lm_head"`
	Meta             map[string][]string `json:"meta"`
	PackDType        string              `json:"pack_dtype"`
	Method           string              `json:"quant_method"`
	StaticGroups     bool                `json:"static_groups"`
	Sym              bool                `json:"sym"`
	TrueSequential   bool                `json:"true_sequential"`
}

// Files puts quantization_config into config.json and repeats it in
// quantize_config.json for older readers. Linears that are not quantized are
// excluded in "dynamic", under the names that runtimes give merged layers too.
func (f GPTQ) Files(source []byte, d Description) (map[string][]byte, error) {
	c := gptqConfig{
		Bits: 4, CheckpointFormat: "gptq", DampPercent: 0.01, GroupSize: f.GroupSize, PackDType: "int32",
		Method: "gptq", Sym: true, TrueSequential: true, Meta: map[string][]string{"quantizer": {d.Tool}},
	}
	if f.V2 {
		c.CheckpointFormat = "gptq_v2"
	}
	for _, name := range d.withFused() {
		if c.Dynamic == nil {
			c.Dynamic = map[string]struct{}{}
		}
		c.Dynamic["-:^"+regexp.QuoteMeta(name)+"$"] = struct{}{}
	}
	return configFiles(source, c, "quantize_config.json", c)
}

func parseGPTQ(raw json.RawMessage) (Format, error) {
	c := gptqConfig{CheckpointFormat: "gptq", Sym: true}
	var canonical struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, invalid("quantization_config", err.Error(), "a GPTQ configuration")
	}
	if err := json.Unmarshal(raw, &canonical); err == nil && canonical.Format != "" {
		c.CheckpointFormat = canonical.Format
	}
	switch {
	case c.Bits != 4:
		return nil, refuse("quantization_config.bits", fmt.Sprint(c.Bits), "4", "")
	case c.CheckpointFormat != "gptq" && c.CheckpointFormat != "gptq_v2":
		return nil, refuse("quantization_config.checkpoint_format", c.CheckpointFormat, "gptq or gptq_v2", "")
	}
	f := GPTQ{GroupSize: c.GroupSize, V2: c.CheckpointFormat == "gptq_v2"}
	return f, fit(f, 8, c.GroupSize, c.GroupSize)
}
