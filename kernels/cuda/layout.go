package cuda

// Sizes of the layouts that the package comment draws.
const (
	slab       = 128 // k of a unit
	unitRows   = 64  // channels of a unit
	codeBytes  = unitRows * slab / 2
	blocksStep = 4 // channels are padded to whole blocks of 256
)

// unitBytes is the size of a unit with the given group size, 128 or 64.
func unitBytes(group int) int { return codeBytes + unitRows*slab/group }

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// shape gives the padded extents of a weight (n, k): blocks of 64 channels and
// slabs of 128 k.
func shape(n, k int) (blocks, slabs int) {
	return ceilDiv(n, unitRows*blocksStep) * blocksStep, ceilDiv(k, slab)
}

// paddedRows is the number of rows that m tokens occupy.
func paddedRows(m int) int { return ceilDiv(m, 8) * 8 }

// activationOffset is the place of element k of token m among paddedRows(m) = rows.
func activationOffset(m, k, rows int) int {
	return (k/slab*rows+m)*slab + (k%slab/16^m%8)<<4 + k%16
}
