//go:build !noasm

package tensor

import (
	"sync"
	"unsafe"

	"quantize/internal/simd"
)

// hasVectors says that the assembly may be used.
var hasVectors = sync.OnceValue(simd.AVX2)

const (
	block    = 32      // elements of a turn of the assembly
	vector   = 32      // bytes
	bypassed = 8 << 20 // bytes of a result from which on the caches are left out
)

// decodeVectors decodes with the assembly. It returns false, having done
// nothing, for types that it has no loop for and for less than a block.
func decodeVectors(dst []float32, src []byte, d DType) bool {
	if len(dst) < block || d != BF16 && d != F16 && d != F8E4M3 && d != F8E5M2 {
		return false
	}
	to := uintptr(unsafe.Pointer(unsafe.SliceData(dst)))
	eachRun(len(dst), to, 4, func(i, n int, stream bool) {
		dst, src := &dst[i], &src[i*d.Bytes()]
		switch d {
		case BF16:
			decodeBF16AVX2(dst, src, n, stream)
		case F16:
			decodeF16AVX2(dst, src, n, stream)
		case F8E4M3:
			decodeE4M3AVX2(dst, src, n, stream)
		default:
			decodeE5M2AVX2(dst, src, n, stream)
		}
	})
	return true
}

// encodeVectors is the same for encoding.
func encodeVectors(dst []byte, src []float32, d DType) bool {
	if len(src) < block || d != BF16 && d != F16 && d != F8E4M3 && d != F8E5M2 {
		return false
	}
	to := uintptr(unsafe.Pointer(unsafe.SliceData(dst)))
	eachRun(len(src), to, d.Bytes(), func(i, n int, stream bool) {
		dst, src := &dst[i*d.Bytes()], &src[i]
		switch d {
		case BF16:
			encodeBF16AVX2(dst, src, n, stream)
		case F16:
			encodeF16AVX2(dst, src, n, stream)
		case F8E4M3:
			encodeE4M3AVX2(dst, src, n, stream)
		default:
			encodeE5M2AVX2(dst, src, n, stream)
		}
	})
	return true
}

// eachRun cuts n >= block elements into runs of whole blocks, calling do with
// the first element of each and their number. Where a block would be cut, runs
// overlap: what is written twice is the same. A long result is written past the
// caches from its first aligned vector on, as memmove does, since it could not
// stay there and writing into them would read it first.
func eachRun(n int, to uintptr, size int, do func(i, n int, stream bool)) {
	done := 0
	if n*size >= bypassed && to%uintptr(size) == 0 {
		do(0, block, false)
		done = int(-to%vector) / size
		whole := (n - done) / block * block
		do(done, whole, true)
		done += whole
	} else {
		done = n / block * block
		do(0, done, false)
	}
	if done < n {
		do(n-block, block, false)
	}
}
