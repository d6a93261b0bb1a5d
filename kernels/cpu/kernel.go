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
}

// tileFunc computes, for i < count*r and j < cols,
//
//	c[i*ldc+j] = init[i*ldinit+j] + sum over p < k of a[i*lda+p]*b[p*cols+j]
//
// in the order of p, init last. Strides are in elements; ldinit 0 repeats one
// row of init, and init may be c. It reads and writes nothing else.
type tileFunc func(count, k int, a *float32, lda int, b *float32, c *float32, ldc int, init *float32, ldinit int)
