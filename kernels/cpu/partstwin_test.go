package cpu

import (
	"math"
	"unsafe"

	"quantize/tensor"
)

// twinKernel writes products of BF16 parts out in plain Go, so that their layout
// and their drivers are tested on every processor.
var twinKernel = func() kernel {
	k := genericKernel
	k.interleave = func(dst *float32, ldd int, src *float32, lds, n int) {
		for r := range together {
			for i := range n {
				*forward(dst, i*ldd+r) = *forward(src, r*lds+i)
			}
		}
	}
	k.parts = &partKernel{cut: twinCut, maxAbs: func(x *float32, n int) float32 { return maxAbsOf(unsafe.Slice(x, n)) }}
	for _, a := range []int{1, maxParts} {
		for b := 1; b <= maxParts; b++ {
			k.parts.products[a][b] = twinProduct(a, b)
		}
	}
	return k
}()

func twinCut(dst *uint16, step, part int, x *float32, n int, exponent float32) (second, third uint32) {
	for i, v := range unsafe.Slice(x, n) {
		rest := float32(math.Ldexp(float64(v), -int(exponent)))
		for p := range maxParts {
			bits := math.Float32bits(rest)
			if p < maxParts-1 {
				bits += 1 << 15
			}
			at := unsafe.Add(unsafe.Pointer(dst), i/partStep*step+p*part+partBytes*(i%16*2+i%partStep/16))
			*(*uint16)(at) = uint16(bits >> 16)
			rest -= tensor.BF16Value(uint16(bits >> 16))
			if bits>>16 != 0 && p == 1 {
				second = 1
			} else if bits>>16 != 0 && p == 2 {
				third = 1
			}
		}
	}
	return second, third
}

func twinProduct(na, nb int) partFunc {
	return func(rows, steps int, a, b *uint16, c *float32, ldc int, init *float32, ldinit int,
		exponent, scale, column *float32, mask uint32, _ *float32, _ *byte, _ uintptr,
	) {
		left := unsafe.Slice(a, (rows+partSide-1)/partSide*steps*maxParts*partPair)
		right := unsafe.Slice(b, steps*nb*partPair)
		for i := range rows {
			for j := range partSide {
				if mask>>j&1 == 0 {
					continue
				}
				sum := float32(0)
				for s := range steps {
					for order := maxParts - 1; order >= 0; order-- { // small products first
						for p := range min(na, order+1) {
							q := order - p
							if q >= nb {
								continue
							}
							x := left[((i/partSide*steps+s)*maxParts+p)*partPair+i%partSide/16*partTile+i%16*partStep:]
							w := right[(s*nb+q)*partPair+j/16*partTile+j%16*2:]
							for k := range partStep {
								sum += float32(tensor.BF16Value(x[k]) * tensor.BF16Value(w[k/2*32+k%2]))
							}
						}
					}
				}
				by := int(*forward(exponent, i) + *forward(column, j))
				if math.IsNaN(float64(*forward(exponent, i) + *forward(column, j))) {
					sum = float32(math.NaN())
				}
				*forward(c, i*ldc+j) = *forward(init, i*ldinit+j) + *forward(scale, i)*float32(math.Ldexp(float64(sum), by))
			}
		}
	}
}
