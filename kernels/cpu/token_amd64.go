//go:build !noasm

package cpu

// tokenFuncsOf returns the vector passes of roundToken, nil where there are
// none; both want whole vectors of the given number of lanes.
func tokenFuncsOf(isa ISA) (maxAbs func(x *float32, n int) float32, round func(dst, x *float32, n int, a float32)) {
	switch isa {
	case Generic:
	case AVX2:
		return maxAbsAVX2, roundE4M3AVX2
	case AVX512:
		return maxAbsAVX512, roundE4M3AVX512
	default:
		return nil, nil
	}
}
