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
	var panel [productSpan * lanes]float64
	var edge [panelRows * lanes]float64 // of a last panel with fewer columns
	for k := from; k < to; k += productSpan {
		span := min(productSpan, to-k)
		for j := 0; j < cols; j += lanes {
			width := min(lanes, cols-j)
			for i := range width {
				for p, v := range b.row(j+i, k, k+span) {
					panel[p*lanes+i] = v
				}
			}
			for i := 0; i < rows; i += panelRows {
				high := min(panelRows, rows-i)
				out, stride := c.data[i*c.stride+j:], c.stride
				if width < lanes {
					for r := range high {
						copy(edge[r*lanes:], out[r*stride:][:width])
					}
					out, stride = edge[:], lanes
				}
				addPanel(high, out, stride, a.data[i*a.stride+k:], a.stride, 1, panel[:], span)
				if width < lanes {
					for r := range high {
						copy(c.row(i+r, j, cols), edge[r*lanes:])
					}
				}
			}
		}
	}
}
