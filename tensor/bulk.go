package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// Decode reads len(dst) little-endian elements of floating-point type d from
// src. It fails on another type and when src has not exactly that many bytes.
// F64 is rounded to FP32; the other types are exact. dst and src must not overlap.
func Decode(dst []float32, src []byte, d DType) error {
	if err := checkBulk(len(src), len(dst), d); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	switch d {
	case F32:
		decodeF32(dst, src)
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src)))
			src = src[8:]
		}
	case BF16:
		decodeBF16(dst, src)
	case F16:
		for i := range dst {
			dst[i] = F16Value(binary.LittleEndian.Uint16(src))
			src = src[2:]
		}
	case F8E4M3:
		for i, b := range src[:len(dst)] {
			dst[i] = e4m3Values[b]
		}
	case F8E5M2:
		for i, b := range src[:len(dst)] {
			dst[i] = e5m2Values[b]
		}
	}
	return nil
}

// Encode writes src as little-endian elements of floating-point type d, rounded
// as the encoder of that type says. It fails on another type and when dst has
// not exactly len(src) elements' bytes. dst and src must not overlap.
func Encode(dst []byte, src []float32, d DType) error {
	if err := checkBulk(len(dst), len(src), d); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	switch d {
	case F32:
		encodeF32(dst, src)
	case F64:
		for _, x := range src {
			binary.LittleEndian.PutUint64(dst, math.Float64bits(float64(x)))
			dst = dst[8:]
		}
	case BF16:
		encodeBF16(dst, src)
	case F16:
		for _, x := range src {
			binary.LittleEndian.PutUint16(dst, F16Bits(x))
			dst = dst[2:]
		}
	case F8E4M3:
		for i, x := range src[:len(dst)] {
			dst[i] = E4M3(x)
		}
	case F8E5M2:
		for i, x := range src[:len(dst)] {
			dst[i] = E5M2(x)
		}
	}
	return nil
}

func checkBulk(bytes, elements int, d DType) error {
	if !d.IsFloat() {
		return fmt.Errorf("%v is not a floating-point type", d)
	}
	if want := elements * d.Bytes(); bytes != want {
		return fmt.Errorf("%d elements of %v: found %d bytes, wanted %d", elements, d, bytes, want)
	}
	return nil
}

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

// decodeBF16 moves four elements with one load.
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

// encodeBF16 rounds two elements in one 64-bit word; only a NaN could carry
// from one half into the other, and NaNs take the scalar way.
func encodeBF16(dst []byte, src []float32) {
	const lo = 0x0000000100000001
	for len(src) >= 4 && len(dst) >= 8 {
		a := uint64(math.Float32bits(src[0])) | uint64(math.Float32bits(src[1]))<<32
		b := uint64(math.Float32bits(src[2])) | uint64(math.Float32bits(src[3]))<<32
		nan := (a&(0x7FFFFFFF*lo) + 0x7FFFFF*lo) | (b&(0x7FFFFFFF*lo) + 0x7FFFFF*lo)
		if nan&(0x80000000*lo) != 0 {
			for i, x := range src[:4] {
				binary.LittleEndian.PutUint16(dst[2*i:], BF16Bits(x))
			}
		} else {
			a = (a + 0x7FFF*lo + a>>16&lo) >> 16
			b = (b + 0x7FFF*lo + b>>16&lo) >> 16
			lower := a&0xFFFF | a>>16&0xFFFF0000
			upper := b&0xFFFF | b>>16&0xFFFF0000
			binary.LittleEndian.PutUint64(dst, lower|upper<<32)
		}
		dst, src = dst[8:], src[4:]
	}
	for i, x := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], BF16Bits(x))
	}
}
