//go:build !noasm

package eval

import (
	"sync"

	"quantize/internal/simd"
)

// hasVectors says that the assembly may be used.
var hasVectors = sync.OnceValue(simd.AVX2)

const block = 32 // elements of a turn of largestAVX2

// The functions below do whole turns and leave the rest to plain Go. A row is
// cut at multiples of eight only, so that an element keeps its lane.

func (s *lanes) addExpVectors(x []float32, shift float64) {
	whole := len(x) / len(s) * len(s)
	if whole > 0 {
		addExpAVX2(&s[0], &x[0], whole, shift)
	}
	s.addExp(x[whole:], shift)
}

func (s *lanes) addDivergenceVectors(x, y []float32, shift float64) {
	whole := len(x) / len(s) * len(s)
	y = y[:len(x)]
	if whole > 0 {
		addDivergenceAVX2(&s[0], &x[0], &y[0], whole, shift)
	}
	s.addDivergence(x[whole:], y[whole:], shift)
}

func largestVectors(x []float32) float32 {
	whole := len(x) / block * block
	top := largest(x[whole:])
	if whole > 0 {
		top = max(top, largestAVX2(&x[0], whole))
	}
	return top
}
