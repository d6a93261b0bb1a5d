package tensor

import "math"

// F16Bits returns the IEEE 754 binary16 bits nearest to x, ties to even. 65520 and
// above become infinite; a NaN keeps its sign and upper payload and is made quiet.
func F16Bits(x float32) uint16 {
	b := math.Float32bits(x)
	a := b & 0x7FFFFFFF
	if a > 0x7F800000 {
		return uint16(b>>16)&0x8000 | 0x7E00 | uint16(a>>13)&0x3FF
	}
	a = min(a, 0x47800000)                        // 65536, whose code is that of infinity
	e := max(a>>23, 113)                          // 2^-14, the smallest normal
	magic := math.Float32frombits((e + 13) << 23) // 13 = 23 - 10 mantissa bits
	return uint16(b>>16)&0x8000 | uint16((e-113)<<10+math.Float32bits(math.Float32frombits(a)+magic))
}

// F16Value returns the value of binary16 bits; it is exact.
func F16Value(h uint16) float32 {
	sign, a := uint32(h&0x8000)<<16, uint32(h&0x7FFF)<<13
	switch {
	case a >= 0x7C00<<13: // infinity, NaN
		a |= 0x7F800000
	case a >= 0x0400<<13: // normal: 112 = 127 - 15
		a += 112 << 23
	default: // zero, subnormal: 2^-14 + m*2^-24 is exact, and so is the difference
		a = math.Float32bits(math.Float32frombits(a+113<<23) - 0x1p-14)
	}
	return math.Float32frombits(sign | a)
}
