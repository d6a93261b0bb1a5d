package tensor

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Decode reads len(dst) little-endian elements of floating-point type d from
// src. It fails on another type and when src has not exactly that many bytes.
// F64 is rounded to FP32; the other types are exact. dst and src must not overlap.
func Decode(dst []float32, src []byte, d DType) error {
	if err := checkBulk(len(src), len(dst), d); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	decode(dst, src, d, hasVectors())
	return nil
}

// Encode writes src as little-endian elements of floating-point type d, rounded
// as the encoder of that type says. It fails on another type and when dst has
// not exactly len(src) elements' bytes. dst and src must not overlap.
func Encode(dst []byte, src []float32, d DType) error {
	if err := checkBulk(len(dst), len(src), d); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	encode(dst, src, d, hasVectors())
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

// decode is Decode of checked arguments; with vectors the assembly does what it can.
func decode(dst []float32, src []byte, d DType, vectors bool) {
	if vectors && decodeVectors(dst, src, d) {
		return
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
		decodeF16(dst, src)
	case F8E4M3:
		for i, b := range src[:len(dst)] {
			dst[i] = e4m3Values[b]
		}
	case F8E5M2:
		for i, b := range src[:len(dst)] {
			dst[i] = e5m2Values[b]
		}
	default:
		panic("tensor: a type that checkBulk should have refused")
	}
}

// encode is the same for Encode.
func encode(dst []byte, src []float32, d DType, vectors bool) {
	if vectors && encodeVectors(dst, src, d) {
		return
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
		encodeF16(dst, src)
	case F8E4M3:
		encodeE4M3(dst, src)
	case F8E5M2:
		for i, x := range src[:len(dst)] {
			dst[i] = E5M2(x)
		}
	default:
		panic("tensor: a type that checkBulk should have refused")
	}
}
