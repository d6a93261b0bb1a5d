package packer

// Solve replaces each of the rows of g (N, K) by the x with x H' = g, H' the
// damped Hessian. Inputs that never were anything but zero get 0.
func (f *Factor) Solve(g []float64, n int) {
	overRows((n+solveRows-1)/solveRows, func(next func() (int, bool)) {
		var places [solveRows][]float64
		for i := range places {
			places[i] = make([]float64, f.K)
		}
		for b, ok := next(); ok; b, ok = next() {
			rows := min(solveRows, n-b*solveRows)
			block := g[b*solveRows*f.K:][:rows*f.K]
			for r := range rows {
				for i, from := range f.order {
					places[r][i] = block[r*f.K+from]
				}
			}
			f.solve(&places)
			for r := range rows {
				for i, from := range f.order {
					block[r*f.K+from] = places[r][i]
					if f.dead[i] {
						block[r*f.K+from] = 0
					}
				}
			}
		}
	})
}

// solveRows rows are solved together: each row of U is then read once for all.
const solveRows = 4

// solve solves x U D Uᵀ = g for four rows in the order of rounding, in place:
// t Uᵀ = g from the last column to the first, then x U = t D⁻¹ forwards.
func (f *Factor) solve(rows *[solveRows][]float64) {
	k := f.K
	p, q, r, s := rows[0], rows[1], rows[2], rows[3]
	for i := k - 1; i >= 0; i-- {
		u := f.h[i*k+i+1 : (i+1)*k]
		var a, b, c, d float64
		pt, qt, rt, st := p[i+1:k], q[i+1:k], r[i+1:k], s[i+1:k]
		for j, v := range u {
			a += float64(pt[j] * v)
			b += float64(qt[j] * v)
			c += float64(rt[j] * v)
			d += float64(st[j] * v)
		}
		p[i], q[i], r[i], s[i] = p[i]-a, q[i]-b, r[i]-c, s[i]-d
	}
	for i, d := range f.d {
		p[i], q[i], r[i], s[i] = p[i]/d, q[i]/d, r[i]/d, s[i]/d
	}
	for i := range k {
		u := f.h[i*k+i+1 : (i+1)*k]
		a, b, c, d := p[i], q[i], r[i], s[i]
		pt, qt, rt, st := p[i+1:k], q[i+1:k], r[i+1:k], s[i+1:k]
		for j, v := range u {
			pt[j] -= float64(a * v)
			qt[j] -= float64(b * v)
			rt[j] -= float64(c * v)
			st[j] -= float64(d * v)
		}
	}
}
