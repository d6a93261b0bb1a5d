package format

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"quantize/packer"
	"quantize/tensor"
)

// AWQ is AutoAWQ's GEMM layout (docs/formats.md 10).
//
//	qweight  I32 (K, N/8)    word (k, c): nibble i is output feature 8c + awqOrder[i], u = 0..15
//	qzeros   I32 (K/g, N/8)  the same order, zero as it is
//	scales   F16 (K/g, N)
type AWQ struct {
	GroupSize int
}

// awqOrder is the output feature, of eight, that nibble i of a word holds.
var awqOrder = [8]int{0, 2, 4, 6, 1, 3, 5, 7}

// Name is "awq".
func (f AWQ) Name() string { return "awq" }

// Fields lists qweight, qzeros and scales.
func (f AWQ) Fields(n, k int) []Field {
	groups := k / f.GroupSize
	return []Field{
		{Suffix: ".qweight", DTypes: []tensor.DType{tensor.I32}, Shape: []int{k, n / 8}},
		{Suffix: ".qzeros", DTypes: []tensor.DType{tensor.I32}, Shape: []int{groups, n / 8}},
		{Suffix: ".scales", DTypes: []tensor.DType{tensor.F16, tensor.BF16}, Shape: []int{groups, n}},
	}
}

// Pack turns each square of eight rows and eight columns.
func (f AWQ) Pack(w packer.Weight) ([]Part, error) {
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
		for j, row := range awqOrder {
			word |= uint32(g.zero((i%(g.N/8)*8+row)*groups+i/(g.N/8))) << (4 * j)
		}
		binary.LittleEndian.PutUint32(zeros[4*i:], word)
	}
	return []Part{
		{tensor.I32, awqCodes(g)},
		{tensor.I32, zeros},
		{tensor.F16, halvesTransposed(scales, g.N, groups)},
	}, nil
}

func awqCodes(g *GroupedWeight) []byte {
	words, across := g.K/8, g.N/8
	out := make([]byte, 4*len(g.Codes))
	shared(words, tile, func(from, to int) {
		var square [8]uint32
		for c := range across {
			for j := from; j < to; j++ {
				for i, row := range awqOrder {
					square[i] = g.Codes[(8*c+row)*words+j]
				}
				transposeNibbles(&square)
				for i, word := range square {
					binary.LittleEndian.PutUint32(out[4*((8*j+i)*across+c):], word)
				}
			}
		}
	})
	return out
}

// Unpack is the inverse of Pack.
func (f AWQ) Unpack(n, k int, parts []Part) (packer.Weight, error) {
	if err := fit(f, n, k, f.GroupSize); err != nil {
		return nil, err
	}
	groups, words, across := k/f.GroupSize, k/8, n/8
	w := &GroupedWeight{N: n, K: k, GroupSize: f.GroupSize, Codes: make([]uint32, n*words), Zeros: make([]uint8, n*groups)}
	shared(words, tile, func(from, to int) {
		var square [8]uint32
		for c := range across {
			for j := from; j < to; j++ {
				for i := range square {
					square[i] = binary.LittleEndian.Uint32(parts[0].Data[4*((8*j+i)*across+c):])
				}
				transposeNibbles(&square)
				for i, row := range awqOrder {
					w.Codes[(8*c+row)*words+j] = square[i]
				}
			}
		}
	})
	for i := range groups * across {
		word := binary.LittleEndian.Uint32(parts[1].Data[4*i:])
		for j, row := range awqOrder {
			w.Zeros[(i%across*8+row)*groups+i/across] = uint8(word >> (4 * j) & 15)
		}
	}
	w.symmetric()
	var err error
	if w.Scales, err = scalesTransposed(parts[2], n, groups); err != nil {
		return nil, err
	}
	return w, w.validate()
}

type awqConfig struct {
	Bits      int      `json:"bits"`
	GroupSize int      `json:"group_size"`
	Skipped   []string `json:"modules_to_not_convert"`
	Method    string   `json:"quant_method"`
	Version   string   `json:"version"`
	ZeroPoint bool     `json:"zero_point"`
}

// Files puts quantization_config into config.json. Linears that are not quantized
// are named in modules_to_not_convert, under the names of merged layers too.
func (f AWQ) Files(source []byte, d Description) (map[string][]byte, error) {
	return configFiles(source, awqConfig{
		Bits: 4, GroupSize: f.GroupSize, Skipped: d.withFused(), Method: "awq", Version: "gemm", ZeroPoint: true,
	}, "", nil)
}

func parseAWQ(raw json.RawMessage) (Format, error) {
	var c struct {
		awqConfig
		WBits int `json:"w_bit"`
		QSize int `json:"q_group_size"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, invalid("quantization_config", err.Error(), "an AWQ configuration")
	}
	bits, group := max(c.Bits, c.WBits), max(c.GroupSize, c.QSize)
	switch {
	case bits != 4:
		return nil, refuse("quantization_config.bits", fmt.Sprint(bits), "4", "")
	case c.Version != "" && c.Version != "gemm" && c.Version != "GEMM":
		return nil, refuse("quantization_config.version", c.Version, "gemm", "")
	}
	f := AWQ{GroupSize: group}
	return f, fit(f, 8, group, group)
}
