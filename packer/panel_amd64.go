//go:build !noasm

package packer

import (
	"sync"

	"quantize/internal/simd"
)

// hasVectors says that the assembly may be used.
var hasVectors = sync.OnceValue(simd.AVX2)

func addPanelVectors(c *float64, ldc int, a *float64, rs, ks int, b *float64, k int) {
	addPanelAVX2(c, ldc, a, rs, ks, b, k)
}
