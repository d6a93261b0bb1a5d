package packer

const (
	// solveRows rows are solved together: U is then read once for all of them.
	solveRows = 4 * lanes
	// solveBlock is how many columns are solved before all others see them.
	solveBlock = 32
)

// Solve replaces each of the rows of g (N, K) by the x with x H' = g, H' the
// damped Hessian. Inputs that never were anything but zero get 0.
func (f *Factor) Solve(g []float64, n int) {
	overRows((n+solveRows-1)/solveRows, func(next func() (int, bool)) {
		s := newSolver(f)
		for b, ok := next(); ok; b, ok = next() {
			rows := min(solveRows, n-b*solveRows)
			block := g[b*solveRows*f.K:][:rows*f.K]
			s.load(block, rows)
			s.backward()
			s.divide()
			s.forward()
			s.store(block, rows)
		}
	})
}

// solver solves x U D Uᵀ = g for solveRows rows in the order of rounding:
// t Uᵀ = g from the last column to the first, then x U = t D⁻¹ forwards. Rows
// stand in panels: column j of eight of them is x[j·lanes:][:lanes].
type solver struct {
	f      *Factor
	panels [solveRows / lanes][]float64
	sums   [solveBlock * lanes]float64
	tile   [solveBlock * panelRows]float64 // of U
}

func newSolver(f *Factor) *solver {
	s := &solver{f: f}
	for p := range s.panels {
		s.panels[p] = make([]float64, f.K*lanes)
	}
	return s
}

func (s *solver) load(block []float64, rows int) {
	for r := range solveRows {
		x := s.panels[r/lanes][r%lanes:]
		for i, from := range s.f.order {
			x[i*lanes] = 0
			if r < rows {
				x[i*lanes] = block[r*s.f.K+from]
			}
		}
	}
}

func (s *solver) store(block []float64, rows int) {
	for r := range rows {
		x := s.panels[r/lanes][r%lanes:]
		for i, to := range s.f.order {
			block[r*s.f.K+to] = x[i*lanes]
			if s.f.dead[i] {
				block[r*s.f.K+to] = 0
			}
		}
	}
}

// backward subtracts from each column of a block the columns behind the block
// times their row of U, and then those of the block.
func (s *solver) backward() {
	k, h := s.f.K, s.f.h
	for from := (k - 1) / solveBlock * solveBlock; from >= 0; from -= solveBlock {
		to := min(from+solveBlock, k)
		for _, x := range s.panels {
			clear(s.sums[:])
			for i := from; i < to && to < k; i += panelRows {
				addPanel(min(panelRows, to-i), s.sums[(i-from)*lanes:], lanes, h[i*k+to:], k, 1, x[to*lanes:], k-to)
			}
			for i := to - 1; i >= from; i-- {
				sums := (*[lanes]float64)(s.sums[(i-from)*lanes:])
				for j := i + 1; j < to; j++ {
					addColumn(sums, h[i*k+j], (*[lanes]float64)(x[j*lanes:]))
				}
				subtract((*[lanes]float64)(x[i*lanes:]), sums)
			}
		}
	}
}

func (s *solver) divide() {
	for _, x := range s.panels {
		for i, d := range s.f.d {
			column := (*[lanes]float64)(x[i*lanes:])
			for l := range column {
				column[l] /= d
			}
		}
	}
}

// forward solves the columns of a block and subtracts them, times U, from all
// columns behind it.
func (s *solver) forward() {
	k, h := s.f.K, s.f.h
	for from := 0; from < k; from += solveBlock {
		to := min(from+solveBlock, k)
		for _, x := range s.panels {
			for i := from + 1; i < to; i++ {
				var sums [lanes]float64
				for j := from; j < i; j++ {
					addColumn(&sums, h[j*k+i], (*[lanes]float64)(x[j*lanes:]))
				}
				subtract((*[lanes]float64)(x[i*lanes:]), &sums)
			}
		}
		for j := to; j < k; j += panelRows {
			high := min(panelRows, k-j)
			for i := from; i < to; i++ {
				copy(s.tile[(i-from)*panelRows:][:panelRows], h[i*k+j:i*k+j+high])
			}
			for _, x := range s.panels {
				sums := s.sums[:panelRows*lanes]
				clear(sums)
				addPanel(high, sums, lanes, s.tile[:], 1, panelRows, x[from*lanes:], to-from)
				for r := range high {
					subtract((*[lanes]float64)(x[(j+r)*lanes:]), (*[lanes]float64)(sums[r*lanes:]))
				}
			}
		}
	}
}

func addColumn(sums *[lanes]float64, u float64, x *[lanes]float64) {
	for l := range sums {
		sums[l] += float64(u * x[l])
	}
}

func subtract(x, sums *[lanes]float64) {
	for l := range x {
		x[l] -= sums[l]
	}
}
