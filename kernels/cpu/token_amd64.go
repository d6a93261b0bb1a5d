//go:build !noasm

package cpu

// tokenFuncsOf returns the vector passes of RoundTokens, nil where there are
// none; both want whole vectors of the kernel's lanes.
func tokenFuncsOf(isa ISA) (maxAbs func(x *float32, n int) float32, round func(dst, x *float32, n int, a, by float32)) {
	switch isa {
	case AVX2:
		return maxAbsAVX2, roundE4M3AVX2
	case AVX512, AMX:
		return maxAbsAVX512, roundE4M3AVX512
	case Generic:
	}
	return nil, nil
}
