package cuda

import (
	"encoding/binary"
	"fmt"

	"quantize/kernels/ref"
	"quantize/packer"
	"quantize/tensor"
)

// kvBlock is the number of tokens of a record.
const kvBlock = 64

// KVLayout places an INT4 cache. 64 tokens of one sequence and KV head are one
// contiguous record, which a warp of the decode kernel takes as one bulk copy;
// records lie as [sequence][KV head][capacity/64].
//
//	keys        64·D/2 bytes of codes
//	values      64·D/2 bytes of codes
//	parameters  of keys [D/Group][64], of values [D/Group][64]
//
// A parameter is the scale and the offset in FP16 (scale in the low half), or the
// scale in E4M3 where codes are symmetric. Codes are unsigned, symmetric ones q + 8.
//
// The product of keys is an mma.m16n8k16 whose thread (g, t) = (lane/4, lane%4)
// holds tokens g and g+8. Any order of the channels will do if queries have it too:
// thread t takes channels 32j + 8t ..+7, for j < D/32, as the D/32 words of one load,
// so that 32 channels, the smallest group, are a sum of their own.
//
//	token i      bytes i·D/2 .. of the keys
//	word         t·D/32 + j       channels 32j + 8t ..+7, channel 32j + 8t + n in nibble n
//
// The product of values has channels as rows and tokens as columns, so a register
// holds two tokens of a channel. A word is four channels of two tokens, two bytes
// each:
//
//	tile of 16 tokens, 64 channels, thread, 16 bytes:
//	  [32 channels: 2][tokens 2t, 2t+1 | 2t+8, 2t+9][first token: 2 bytes][second]
//	channels 4g ..+3 of the 32, channel 4g + n in nibble n of the two bytes
//
// Whole bytes belong to one token in both, so tokens are stored without reading
// their neighbours and no part of the cache is kept in another format.
type KVLayout struct {
	HeadDim   int // D: 64 or 128
	Group     int // channels that share a scale: 32, 64 or D
	Symmetric bool
}

// NewKVLayout is the layout for a scheme, whether or not there are kernels for it.
func NewKVLayout(scheme packer.KVScheme, headDim int) KVLayout {
	return KVLayout{HeadDim: headDim, Group: scheme.Group(headDim), Symmetric: scheme.Symmetric}
}

// scheme is the one of which l is the layout.
func (l KVLayout) scheme() packer.KVScheme {
	s := packer.KVScheme{Format: packer.KVInt4, GroupSize: l.Group, Symmetric: l.Symmetric}
	if l.Group == l.HeadDim {
		s.GroupSize = 0
	}
	return s
}

// String names the layout's kernels: "d128_g64_affine".
func (l KVLayout) String() string {
	kind := "affine"
	if l.Symmetric {
		kind = "symmetric"
	}
	return fmt.Sprintf("d%d_g%d_%s", l.HeadDim, l.Group, kind)
}

// valid says whether kernels were built for l.
func (l KVLayout) valid() bool {
	return (l.HeadDim == 64 || l.HeadDim == 128) && (l.Group == 32 || l.Group == 64 || l.Group == l.HeadDim)
}

// kvLayouts are those that kernels were built for.
func kvLayouts() []KVLayout {
	var all []KVLayout
	for _, d := range []int{64, 128} {
		for _, group := range []int{32, 64, 128} {
			for _, symmetric := range []bool{false, true} {
				if l := (KVLayout{HeadDim: d, Group: group, Symmetric: symmetric}); l.valid() {
					all = append(all, l)
				}
			}
		}
	}
	return all
}

func (l KVLayout) parameterBytes() int {
	if l.Symmetric {
		return 1
	}
	return 4
}

// RecordBytes is the size of a record.
func (l KVLayout) RecordBytes() int {
	return kvBlock*l.HeadDim + 2*kvBlock*l.HeadDim/l.Group*l.parameterBytes()
}

// keyByte is the place in a record of channel d of a token's keys; it is nibble d%2.
func (l KVLayout) keyByte(token, d int) int {
	return token*l.HeadDim/2 + 4*(d%32/8*(l.HeadDim/32)+d/32) + d%8/2
}

// valueByte is the same of its values.
func (l KVLayout) valueByte(token, d int) int {
	tile, half, t, g := token/16, token%16/8, token%8/2, d%32/4
	return kvBlock*l.HeadDim/2 + tile*8*l.HeadDim + d/64*512 + (4*g+t)*16 + d%64/32*8 + half*4 + token%2*2 + d%4/2
}

// parameterByte is the place of the parameter of a group of a token's keys or values.
func (l KVLayout) parameterByte(values bool, group, token int) int {
	i := group*kvBlock + token
	if values {
		i += kvBlock * l.HeadDim / l.Group
	}
	return kvBlock*l.HeadDim + i*l.parameterBytes()
}

// Put writes the keys, or the values, of a token into a record.
func (l KVLayout) Put(record []byte, values bool, token int, h ref.CachedHead) {
	place := l.keyByte
	if values {
		place = l.valueByte
	}
	for d, u := range h.Codes {
		to, shift := &record[place(token, d)], 4*(d%2)
		*to = *to&^(15<<shift) | u<<shift
	}
	for i, scale := range h.Scales {
		to := record[l.parameterByte(values, i, token):]
		if l.Symmetric {
			to[0] = tensor.E4M3(scale)
		} else {
			binary.LittleEndian.PutUint16(to, tensor.F16Bits(scale))
			binary.LittleEndian.PutUint16(to[2:], tensor.F16Bits(h.Offsets[i]))
		}
	}
}

// Get reads what Put wrote.
func (l KVLayout) Get(record []byte, values bool, token int) ref.CachedHead {
	place := l.keyByte
	if values {
		place = l.valueByte
	}
	h := ref.CachedHead{Codes: make([]uint8, l.HeadDim)}
	for d := range h.Codes {
		h.Codes[d] = record[place(token, d)] >> (4 * (d % 2)) & 15
	}
	for i := range l.HeadDim / l.Group {
		from := record[l.parameterByte(values, i, token):]
		if l.Symmetric {
			h.Scales = append(h.Scales, tensor.E4M3Value(from[0]))
		} else {
			h.Scales = append(h.Scales, tensor.F16Value(binary.LittleEndian.Uint16(from)))
			h.Offsets = append(h.Offsets, tensor.F16Value(binary.LittleEndian.Uint16(from[2:])))
		}
	}
	return h
}
