package tensor

import "math"

// BF16Bits returns the BF16 bits nearest to x, ties to even. Values that round
// beyond the largest finite number become infinite; a NaN keeps its sign and
// upper payload and is made quiet.
func BF16Bits(x float32) uint16 {
	b := math.Float32bits(x)
	if b&0x7FFFFFFF > 0x7F800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7FFF + b>>16&1) >> 16)
}

// BF16Value returns the value of BF16 bits; it is exact.
func BF16Value(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }
