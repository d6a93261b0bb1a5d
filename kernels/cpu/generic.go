package cpu

import "unsafe"

// genericKernel is the plain Go twin of the assembly, for other processors and
// for the tests.
var genericKernel = kernel{
	isa: Generic, rows: 4, cols: 4, blockK: 384, blockM: 64,
	tiles: []tileFunc{nil, genericTile(1), genericTile(2), genericTile(3), tile4x4},
	lanes: 1, softmax: softmax, siluMul: siluMul, normMul: normMul, scale: scale, sumSquares: sumSquares,
}

// tile4x4 keeps its 4 x 4 sums in variables, which is what makes it faster
// than genericTile. The conversions forbid fusing, so that both round alike on
// every processor.
func tile4x4(count, k int, a *float32, lda int, b, c *float32, ldc int, init *float32, ldinit int, _ uintptr, _ int) {
	panel := unsafe.Slice(b, 4*k)
	for t := range count {
		a0, a1 := unsafe.Slice(forward(a, 4*t*lda), k), unsafe.Slice(forward(a, (4*t+1)*lda), k)
		a2, a3 := unsafe.Slice(forward(a, (4*t+2)*lda), k), unsafe.Slice(forward(a, (4*t+3)*lda), k)
		var s00, s01, s02, s03, s10, s11, s12, s13 float32
		var s20, s21, s22, s23, s30, s31, s32, s33 float32
		for p, x0 := range a0 {
			w := panel[4*p : 4*p+4 : 4*p+4]
			w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
			x1, x2, x3 := a1[p], a2[p], a3[p]
			s00, s01, s02, s03 = s00+float32(x0*w0), s01+float32(x0*w1), s02+float32(x0*w2), s03+float32(x0*w3)
			s10, s11, s12, s13 = s10+float32(x1*w0), s11+float32(x1*w1), s12+float32(x1*w2), s13+float32(x1*w3)
			s20, s21, s22, s23 = s20+float32(x2*w0), s21+float32(x2*w1), s22+float32(x2*w2), s23+float32(x2*w3)
			s30, s31, s32, s33 = s30+float32(x3*w0), s31+float32(x3*w1), s32+float32(x3*w2), s33+float32(x3*w3)
		}
		for r, s := range [4][4]float32{{s00, s01, s02, s03}, {s10, s11, s12, s13}, {s20, s21, s22, s23}, {s30, s31, s32, s33}} {
			finish(s, forward(c, (4*t+r)*ldc), forward(init, (4*t+r)*ldinit))
		}
	}
}

func genericTile(rows int) tileFunc {
	return func(count, k int, a *float32, lda int, b, c *float32, ldc int, init *float32, ldinit int, _ uintptr, _ int) {
		panel := unsafe.Slice(b, 4*k)
		for r := range count * rows {
			var s [4]float32
			for p, x := range unsafe.Slice(forward(a, r*lda), k) {
				for j, w := range panel[4*p : 4*p+4] {
					s[j] += float32(x * w)
				}
			}
			finish(s, forward(c, r*ldc), forward(init, r*ldinit))
		}
	}
}

// finish writes four elements: init, then the sums.
func finish(s [4]float32, c, init *float32) {
	out, from := unsafe.Slice(c, 4), unsafe.Slice(init, 4)
	for j := range out {
		out[j] = from[j] + s[j]
	}
}

// forward moves n elements on, to an element that exists: the garbage collector
// stops the program at a pointer behind its allocation.
func forward(p *float32, n int) *float32 {
	return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n))
}
