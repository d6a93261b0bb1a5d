package packer

// block64 views rows of a row-major FP64 matrix: row i is data[i*stride:].
type block64 struct {
	data   []float64
	stride int
}

func (b block64) row(i, from, to int) []float64 { return b.data[i*b.stride+from : i*b.stride+to] }

// productSpan is how much of K is multiplied at a time, so that the rows in use
// stay in the caches.
const productSpan = 256

// addProduct adds a·bᵀ to c (rows, cols), for rows of a and b from column from to
// column to. Every element is one running sum in the order of the columns, so
// that splitting [from, to) changes no bit, and no product is fused with its sum,
// so that processors agree.
func addProduct(c, a, b block64, rows, cols, from, to int) {
	for k := from; k < to; k += productSpan {
		end := min(k+productSpan, to)
		for i := 0; i < rows; i += 4 {
			// A short last tile repeats its last row and column.
			i1, i2, i3 := min(i+1, rows-1), min(i+2, rows-1), min(i+3, rows-1)
			a0, a1, a2, a3 := a.row(i, k, end), a.row(i1, k, end), a.row(i2, k, end), a.row(i3, k, end)
			c0, c1, c2, c3 := c.row(i, 0, cols), c.row(i1, 0, cols), c.row(i2, 0, cols), c.row(i3, 0, cols)
			for j := 0; j < cols; j += 2 {
				j1 := min(j+1, cols-1)
				sums := [8]float64{c0[j], c0[j1], c1[j], c1[j1], c2[j], c2[j1], c3[j], c3[j1]}
				dot4x2(&sums, a0, a1, a2, a3, b.row(j, k, end), b.row(j1, k, end))
				c3[j], c3[j1] = sums[6], sums[7]
				c2[j], c2[j1] = sums[4], sums[5]
				c1[j], c1[j1] = sums[2], sums[3]
				c0[j], c0[j1] = sums[0], sums[1]
			}
		}
	}
}

// dot4x2 adds the eight products of four rows and two rows, all of one length.
func dot4x2(c *[8]float64, a0, a1, a2, a3, b0, b1 []float64) {
	n := len(a0)
	a1, a2, a3, b0, b1 = a1[:n], a2[:n], a3[:n], b0[:n], b1[:n]
	c00, c01, c10, c11, c20, c21, c30, c31 := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
	for k, x := range a0 {
		y0, y1 := b0[k], b1[k]
		c00 += float64(x * y0)
		c01 += float64(x * y1)
		x = a1[k]
		c10 += float64(x * y0)
		c11 += float64(x * y1)
		x = a2[k]
		c20 += float64(x * y0)
		c21 += float64(x * y1)
		x = a3[k]
		c30 += float64(x * y0)
		c31 += float64(x * y1)
	}
	*c = [8]float64{c00, c01, c10, c11, c20, c21, c30, c31}
}
