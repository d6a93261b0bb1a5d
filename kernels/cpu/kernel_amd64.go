//go:build !noasm

package cpu

import "golang.org/x/sys/cpu"

// kernelFor returns the kernels of an instruction set, nil when the processor
// or the system lacks it.
func kernelFor(isa ISA) *kernel {
	switch {
	case isa == Generic:
		return &genericKernel
	case isa == AVX2 && cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return &avx2Kernel
	case isa == AVX512 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL:
		return &avx512Kernel
	case isa == AMX && kernelFor(AVX512) != nil && hasAMX():
		return &amxKernel
	}
	return nil
}

var avx2Kernel = kernel{
	isa: AVX2, rows: 6, cols: 16, blockK: 384, blockM: 192,
	tiles: []tileFunc{
		nil,
		tile1x16AVX2, tile2x16AVX2, tile3x16AVX2, tile4x16AVX2, tile5x16AVX2, tile6x16AVX2,
	},
	lanes: 8, softmax: softmaxAVX2, siluMul: siluMulAVX2, normMul: normMulAVX2,
	scale: scaleAVX2, sumSquares: sumSquaresAVX2, interleave: interleaveAVX2,
}

var avx512Kernel = kernel{
	isa: AVX512, rows: 14, cols: 32, blockK: 256, blockM: 336,
	tiles: []tileFunc{
		nil,
		tile1x32AVX512, tile2x32AVX512, tile3x32AVX512, tile4x32AVX512, tile5x32AVX512,
		tile6x32AVX512, tile7x32AVX512, tile8x32AVX512, tile9x32AVX512, tile10x32AVX512,
		tile11x32AVX512, tile12x32AVX512, tile13x32AVX512, tile14x32AVX512,
	},
	lanes: 16, softmax: softmaxAVX512, siluMul: siluMulAVX512, normMul: normMulAVX512,
	scale: scaleAVX512, sumSquares: sumSquaresAVX512, interleave: interleaveAVX2,
}
