//go:build !noasm

package cpu

import (
	"sync"

	"golang.org/x/sys/cpu"
)

// hasAMX reports whether the processor multiplies tiles of BF16 and the system
// lets this process use them.
var hasAMX = sync.OnceValue(func() bool {
	return cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && tilesAllowed()
})

// amxKernel is AVX-512 with other linears.
var amxKernel = func() kernel {
	k := avx512Kernel
	k.isa = AMX
	k.parts = &partKernel{
		cut: cutAMX, maxAbs: maxAbsAVX512,
		products: [maxParts + 1][maxParts + 1]partFunc{
			1:        {1: parts1x1AMX, 2: parts1x2AMX, 3: parts1x3AMX},
			maxParts: {1: parts3x1AMX, 2: parts3x2AMX, 3: parts3x3AMX},
		},
	}
	return k
}()
