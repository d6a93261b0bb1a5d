package tensor

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// The loops behind Decode and Encode. Where one is not the scalar codec called
// in a loop, it takes several elements in one word or leaves out the rare cases
// (zero, subnormal, overflow, NaN), which it hands to the scalar codec.

// littleEndian says that a float32 lies in memory as it lies in a file.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// memory is x as bytes in the machine's order. The view does not outlive the
// call that makes it, and any bytes are a valid float32.
func memory(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

func decodeF32(dst []float32, src []byte) {
	if littleEndian {
		copy(memory(dst), src)
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func encodeF32(dst []byte, src []float32) {
	if littleEndian {
		copy(dst, memory(src))
		return
	}
	for i, x := range src {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
	}
}

const (
	lanes16 = 0x0001000100010001 // one in each 16-bit lane of a word
	lanes32 = 0x0000000100000001
)

func decodeBF16(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		v := binary.LittleEndian.Uint64(src)
		dst[0] = math.Float32frombits(uint32(v) << 16)
		dst[1] = math.Float32frombits(uint32(v) & 0xFFFF0000)
		dst[2] = math.Float32frombits(uint32(v>>32) << 16)
		dst[3] = math.Float32frombits(uint32(v>>32) & 0xFFFF0000)
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = BF16Value(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// encodeBF16 rounds two elements in one word; only a NaN could carry from one
// into the other.
func encodeBF16(dst []byte, src []float32) {
	i := 0
	if littleEndian {
		raw := memory(src)
		for ; i+4 <= len(src); i += 4 {
			four := raw[4*i : 4*i+16 : 4*i+16]
			a, b := binary.LittleEndian.Uint64(four), binary.LittleEndian.Uint64(four[8:])
			nan := (a&(0x7FFFFFFF*lanes32) + 0x7FFFFF*lanes32) | (b&(0x7FFFFFFF*lanes32) + 0x7FFFFF*lanes32)
			if nan&(0x80000000*lanes32) != 0 {
				for j, x := range src[i : i+4] {
					binary.LittleEndian.PutUint16(dst[2*(i+j):], BF16Bits(x))
				}
				continue
			}
			a = (a + 0x7FFF*lanes32 + a>>16&lanes32) >> 16
			b = (b + 0x7FFF*lanes32 + b>>16&lanes32) >> 16
			lower := a&0xFFFF | a>>16&0xFFFF0000
			upper := b&0xFFFF | b>>16&0xFFFF0000
			binary.LittleEndian.PutUint64(dst[2*i:2*i+8], lower|upper<<32)
		}
	}
	for ; i < len(src); i++ {
		binary.LittleEndian.PutUint16(dst[2*i:], BF16Bits(src[i]))
	}
}

// decodeF16 moves four normal numbers with one load: their exponent is neither
// 0 nor 31, and 112 = 127 - 15 is the distance of the biases.
func decodeF16(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		v := binary.LittleEndian.Uint64(src)
		a := v & (0x7FFF * lanes16)
		// Bit 15 of a lane: set in the first when the exponent is not 0, in the second when it is 31.
		if normal := ((a | 0x8000*lanes16) - 0x0400*lanes16) &^ (a + 0x0400*lanes16) & (0x8000 * lanes16); normal == 0x8000*lanes16 {
			dst[0], dst[1] = normalF16(uint32(v)), normalF16(uint32(v>>16))
			dst[2], dst[3] = normalF16(uint32(v>>32)), normalF16(uint32(v>>48))
		} else {
			for i := range 4 {
				dst[i] = F16Value(uint16(v >> (16 * i)))
			}
		}
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = F16Value(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

// normalF16 is the value of the lower 16 bits.
func normalF16(h uint32) float32 {
	return math.Float32frombits(h&0x8000<<16 | (h&0x7FFF<<13 + 112<<23))
}

// encodeF16 rounds in integers what becomes a normal number, [2^-14, 65504]:
// adding just under half a unit, and one more when the last bit is odd.
func encodeF16(dst []byte, src []float32) {
	const least, most = 0x38800000, 0x477FE000
	for _, x := range src {
		b := math.Float32bits(x)
		var h uint16
		if a := b & 0x7FFFFFFF; a-least <= most-least {
			h = uint16(b>>16)&0x8000 | uint16((a+0xFFF+a>>13&1)>>13-112<<10)
		} else {
			h = F16Bits(x)
		}
		binary.LittleEndian.PutUint16(dst, h)
		dst = dst[2:]
	}
}

// encodeE4M3 is the same for [2^-6, 448].
func encodeE4M3(dst []byte, src []float32) {
	const least, most = 0x3C800000, 0x43E00000
	for i, x := range src[:len(dst)] {
		b := math.Float32bits(x)
		if a := b & 0x7FFFFFFF; a-least <= most-least {
			dst[i] = uint8(b>>24)&0x80 | uint8((a+0x7FFFF+a>>20&1)>>20-120<<3)
		} else {
			dst[i] = E4M3(x)
		}
	}
}
