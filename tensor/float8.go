package tensor

import "math"

// The largest finite values of the FP8 formats.
const (
	MaxE4M3 = 448
	MaxE5M2 = 57344
)

// E4M3 returns the E4M3 ("fn") bits nearest to x, ties to even. Magnitudes
// above 448, infinity included, saturate to 448; NaN becomes 0x7F with the sign
// of x. It is branch-free but for the NaN test: activations are rounded with it
// in inner loops.
func E4M3(x float32) uint8 {
	b := math.Float32bits(x)
	a := b & 0x7FFFFFFF
	if a > 0x7F800000 {
		return uint8(b>>24) | 0x7F
	}
	a = min(a, 0x43E00000) // 448
	e := max(a>>23, 121)   // 2^-6, the smallest normal
	// 20 = 23 - 3 mantissa bits
	return uint8(b>>24)&0x80 | uint8((e-121)<<3+math.Float32bits(math.Float32frombits(a)+math.Float32frombits((e+20)<<23)))
}

// RoundE4M3 returns the E4M3 value nearest to x: E4M3Value(E4M3(x)) without the
// way through the code.
func RoundE4M3(x float32) float32 {
	b := math.Float32bits(x)
	a := b & 0x7FFFFFFF
	if a > 0x7F800000 {
		return x
	}
	a = min(a, 0x43E00000)
	magic := math.Float32frombits((max(a>>23, 121) + 20) << 23)
	r := math.Float32frombits(a) + magic - magic
	return math.Float32frombits(math.Float32bits(r) | b&0x80000000)
}

// E5M2 returns the E5M2 bits nearest to x, ties to even. Magnitudes above
// 57344, infinity included, saturate to 57344; NaN becomes 0x7F with the sign of x.
func E5M2(x float32) uint8 {
	b := math.Float32bits(x)
	a := b & 0x7FFFFFFF
	if a > 0x7F800000 {
		return uint8(b>>24) | 0x7F
	}
	a = min(a, 0x47600000) // 57344
	e := max(a>>23, 113)   // 2^-14, the smallest normal
	// 21 = 23 - 2 mantissa bits
	return uint8(b>>24)&0x80 | uint8((e-113)<<2+math.Float32bits(math.Float32frombits(a)+math.Float32frombits((e+21)<<23)))
}

// E4M3Value returns the value of E4M3 bits; it is exact.
func E4M3Value(b uint8) float32 { return e4m3Values[b] }

// E5M2Value returns the value of E5M2 bits; it is exact.
func E5M2Value(b uint8) float32 { return e5m2Values[b] }

var e4m3Values, e5m2Values = fp8Tables()

func fp8Tables() (e4m3, e5m2 [256]float32) {
	for i := range 256 {
		b := uint8(i)
		e5m2[b] = F16Value(uint16(b) << 8) // E5M2 is the upper byte of binary16
		exp, m := int(b>>3&15), float64(b&7)
		v := math.Ldexp(8+m, exp-10)
		switch {
		case b&0x7F == 0x7F:
			v = math.NaN()
		case exp == 0:
			v = math.Ldexp(m, -9)
		}
		if b&0x80 != 0 {
			v = -v
		}
		e4m3[b] = float32(v)
	}
	return e4m3, e5m2
}
