package cpu

// kernel is what one instruction set gives to the drivers: the shape of its
// product tile and the routines on vectors.
type kernel struct {
	isa    ISA
	rows   int // rows of the largest tile
	cols   int // columns of every tile: the width of a packed panel
	blockK int // most steps of k in one pass: a panel of that height stays in the first-level cache
	blockM int // most rows of x in one task: that many rows of blockK stay in the second-level cache

	// tiles[r] computes c = init + a·b for consecutive tiles of r rows.
	// tiles[0] is nil.
	tiles []tileFunc

	lanes int // float32 of a vector; the counts below are multiples of it, except softmax's

	// softmax raises top to the largest of x[:n], n > 0, replaces x[:n] by
	// exp(x - top), and returns the new top and the sum of the results. It
	// fills x up with zeros to the next multiple of lanes.
	softmax func(x *float32, n int, top float32) (newTop, sum float32)
	// siluMul writes gate/(1+exp(-gate)) * up; dst may be gate or up.
	siluMul func(dst, gate, up *float32, n int)
	// normMul writes weight * (x * scale); dst may be x.
	normMul func(dst, x, weight *float32, n int, scale float32)
	// scale writes x * scale; dst may be x.
	scale func(dst, x *float32, n int, scale float32)
	// sumSquares returns the sum of x².
	sumSquares func(x *float32, n int) float32
	// interleave writes dst[i*ldd+r] = src[r*lds+i] for eight rows r and i < n,
	// n a multiple of 4; nil where there is none.
	interleave func(dst *float32, ldd int, src *float32, lds, n int)

	// parts computes linears instead of tiles; nil where there is none.
	parts *partKernel
}

// tileFunc computes, for i < count*r and j < cols,
//
//	c[i*ldc+j] = init[i*ldinit+j] + sum over p < k of a[i*lda+p]*b[p*cols+j]
//
// in the order of p, init last. Strides are in elements; ldinit 0 repeats one
// row of init, and init may be c. It reads and writes nothing else; each tile only
// asks for the next lines cache lines from next on. next is an address, not a
// pointer: it may lie behind the last panel, where the garbage collector allows
// no pointer.
type tileFunc func(count, k int, a *float32, lda int, b *float32, c *float32, ldc int, init *float32, ldinit int, next uintptr, lines int)
