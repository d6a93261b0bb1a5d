package smoothing

import "slices"

// paleyOrders are the orders of the matrices that are built from a field, the
// smallest for each odd part of a width that a published model has. All others
// are products of these with powers of two (methods.md 3.6).
var paleyOrders = []int{
	12, 20, 28, 36, 44, 52, 60, 68, 76, 84, 100, 108, 124, 132, 140, 148, 164, 180, 196, 204,
	212, 220, 228, 244, 252, 312, 344, 684, 924,
}

// paley returns the ±1 matrix of one of paleyOrders, by the first construction
// if it has that order.
func paley(order int) [][]int8 {
	if !slices.Contains(paleyOrders, order) {
		panic("smoothing: not a Paley order")
	}
	if _, ok := primeOf(order - 1); ok && order%4 == 0 {
		return paleyI(order - 1)
	}
	return paleyII(order/2 - 1)
}

// paleyI is the Hadamard matrix of order q+1 for a prime power q ≡ 3 mod 4
// (Paley, "On orthogonal matrices", 1933): H = I + S with S = [[0, 1], [-1, J]]
// and the Jacobsthal matrix J[i][j] = χ(a_i - a_j). It is not symmetric.
func paleyI(q int) [][]int8 {
	if q%4 != 3 {
		panic("smoothing: Paley I needs q ≡ 3 mod 4")
	}
	h := conference(q, -1)
	for i := range h {
		h[i][i]++
	}
	return h
}

// paleyII is the Hadamard matrix of order 2(q+1) for a prime power q ≡ 1 mod 4:
// H = C ⊗ [[1, 1], [1, -1]] + I ⊗ [[1, -1], [-1, -1]] with C = [[0, 1], [1, J]].
func paleyII(q int) [][]int8 {
	if q%4 != 1 {
		panic("smoothing: Paley II needs q ≡ 1 mod 4")
	}
	c := conference(q, 1)
	h := make([][]int8, 2*len(c))
	for i, row := range c {
		h[2*i], h[2*i+1] = make([]int8, len(h)), make([]int8, len(h))
		for j, s := range row {
			d := int8(0)
			if i == j {
				d = 1
			}
			h[2*i][2*j], h[2*i][2*j+1] = s+d, s-d
			h[2*i+1][2*j], h[2*i+1][2*j+1] = s-d, -s-d
		}
	}
	return h
}

// conference is the matrix of order q+1 with zeros on the diagonal, ones in
// the rest of the first row, side in the rest of the first column, and J.
func conference(q int, side int8) [][]int8 {
	f := newField(q)
	c := make([][]int8, q+1)
	for i := range c {
		c[i] = make([]int8, q+1)
		for j := range c[i] {
			switch {
			case i == 0 && j == 0:
			case i == 0:
				c[i][j] = 1
			case j == 0:
				c[i][j] = side
			default:
				c[i][j] = f.chi[f.sub(i-1, j-1)]
			}
		}
	}
	return c
}
