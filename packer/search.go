package packer

import (
	"cmp"
	"math"
	"slices"
)

// searcher finds the scales of rows, one after the other. It is the scratch of
// one worker; rows do not influence each other, so any number of workers gives
// the same scales.
type searcher struct {
	grid   Grid
	group  int       // weights per group
	weight []float32 // importance of each input, nil when all count the same
	plain  bool      // no search: amax/7 moved to the nearest grid point
	even   bool      // an error counts the same whatever the weight: GPTQ makes up for it

	amax  []float32
	cost  []float32 // what a squared error of each weight of the row counts
	chans []float32
	try   rowScales
}

// rowScales is what is chosen for one row.
type rowScales struct {
	ch     float32
	tables []uint8 // table byte of each group
	err    float64 // weighted squared error
	floor  bool    // chan is the floor, no group is pinned
}

// How far the search reaches. Below 0.6 of the largest scale, and more than six
// E4M3 neighbours (about 0.57) below a group's own, clipping costs more than
// finer steps win; above its own scale only the next neighbour helps.
const (
	chanReach     = 0.6
	neighboursLow = 6
	neighboursUp  = 1
)

// run chooses chan and the group scales of a row of finite weights and leaves
// them in best, whose tables have one entry per group.
func (s *searcher) run(row []float32, best *rowScales) {
	groups := len(best.tables)
	if s.amax == nil {
		s.amax = make([]float32, groups)
		s.cost = make([]float32, len(row))
		s.try.tables = make([]uint8, groups)
	}
	var top float32
	for g := range groups {
		var m float32
		for _, x := range row[g*s.group:][:s.group] {
			m = max(m, float32(math.Abs(float64(x))))
		}
		s.amax[g] = m
		top = max(top, m)
	}
	wanted := top / 7 / 448
	if s.plain {
		s.nearest(wanted, best)
		return
	}
	s.weigh(row)
	s.candidates(wanted)
	best.err = math.Inf(1)
	for _, ch := range s.chans {
		s.try.ch, s.try.floor = ch, ch == floorChan
		if s.fit(row, best.err) && s.try.err < best.err {
			best.ch, best.err, best.floor = ch, s.try.err, s.try.floor
			copy(best.tables, s.try.tables)
		}
	}
}

// weigh sets what a squared error counts: h_j (1 + |w_j|/rms of its group), and
// 1 for h_j where nothing is known of the inputs. What clipping costs falls on the
// largest weights of a group. Where these sit on the loudest inputs, as in the
// linears that read the residual stream of Qwen2.5, even squares clip so hard that
// the outputs come out worse than with amax/7, although the weights are closer.
// The factor is ours; it stands where QuaRot and GPTQ take |e|^2.4, which
// knows the size of errors but not of weights.
func (s *searcher) weigh(row []float32) {
	for g := range s.amax {
		w, cost := row[g*s.group:][:s.group], s.cost[g*s.group:][:s.group]
		var energy, perRMS float64
		for _, x := range w {
			energy += float64(float64(x) * float64(x))
		}
		if energy > 0 {
			perRMS = 1 / math.Sqrt(energy/float64(s.group))
		}
		if s.even {
			perRMS = 0
		}
		for j, x := range w {
			cost[j] = 1 + float32(math.Abs(float64(x))*perRMS)
			if s.weight != nil {
				cost[j] *= s.weight[g*s.group+j]
			}
		}
	}
}

// nearest projects the scales amax/7 onto the grid without looking at errors.
func (s *searcher) nearest(wanted float32, best *rowScales) {
	best.ch, best.floor = roundChan(wanted), false
	if !chanAboveFloor(best.ch) {
		best.ch, best.floor = floorChan, true
	}
	widest := 0
	for g, m := range s.amax {
		best.tables[g] = nearestTable(m / 7 / best.ch)
		if m > s.amax[widest] {
			widest = g
		}
	}
	if !best.floor {
		best.tables[widest] = pinned
	}
}

// candidates lists the row factors to try, the likeliest first: a good early
// row makes the others stop early.
func (s *searcher) candidates(wanted float32) {
	s.chans = s.chans[:0]
	for ch := roundChan(wanted * chanReach); ; ch = nextChan(ch) {
		if chanAboveFloor(ch) && ch >= wanted*chanReach {
			s.chans = append(s.chans, ch)
		}
		if ch >= wanted {
			break
		}
	}
	if !chanAboveFloor(wanted) || len(s.chans) == 0 {
		s.chans = append(s.chans[:0], floorChan)
		return
	}
	likely := wanted * 0.85
	slices.SortStableFunc(s.chans, func(a, b float32) int {
		return cmp.Compare(math.Abs(float64(a-likely)), math.Abs(float64(b-likely)))
	})
}

// roundChan returns the nearest number of four significant bits, never 0.
func roundChan(x float32) float32 {
	x = max(x, floorChan/2)
	frac, exp := math.Frexp(float64(x)) // frac in [1/2, 1)
	return float32(math.Ldexp(math.RoundToEven(frac*16), exp-4))
}

// nextChan returns the next larger number of four significant bits.
func nextChan(ch float32) float32 {
	frac, exp := math.Frexp(float64(ch))
	return float32(math.Ldexp(frac*16+1, exp-4))
}

// chanAboveFloor reports whether vLLM finds ch again from a stored 448*ch.
func chanAboveFloor(ch float32) bool { return ch >= floorChan }

// fit chooses the group scales under s.try.ch. It gives up, returning false, as
// soon as the row is worse than limit.
func (s *searcher) fit(row []float32, limit float64) bool {
	t := &s.try
	t.err = 0
	reached := t.floor
	for g := range t.tables {
		e, ok := s.fitGroup(row, g, limit-t.err)
		if !ok {
			return false
		}
		t.err += e
		reached = reached || t.tables[g] == pinned
	}
	if !reached {
		t.err += s.pin(row)
	}
	return true
}

// fitGroup tries the neighbours of amax/7 for group g, and reports false when
// none is better than limit.
func (s *searcher) fitGroup(row []float32, g int, limit float64) (float64, bool) {
	if s.amax[g] == 0 {
		s.try.tables[g] = lifted
		return 0, limit >= 0
	}
	near := int(nearestTable(s.amax[g] / 7 / s.try.ch))
	found := false
	// One below the nearest first: it is the winner most often, and all others
	// are then cut short against it.
	start := max(near-1, lifted)
	consider := func(t int) {
		if e := s.groupError(row, g, uint8(t), limit); e < limit || (!found && e <= limit) {
			limit, found = e, true
			s.try.tables[g] = uint8(t)
		}
	}
	consider(start)
	for t := start + 1; t <= min(near+neighboursUp, pinned); t++ {
		consider(t)
	}
	for t := start - 1; t >= max(near-neighboursLow, lifted); t-- {
		consider(t)
	}
	return limit, found
}

// pin raises one group to s8 = 448, the one where that costs least, and returns
// the cost. Groups far below cost more than those at hand, so only the widest
// group and those within an octave of the top are asked.
func (s *searcher) pin(row []float32) float64 {
	widest := 0
	for g, m := range s.amax {
		if m > s.amax[widest] {
			widest = g
		}
	}
	best, cost := widest, math.Inf(1)
	for g, t := range s.try.tables {
		if g != widest && t < pinned-8 {
			continue
		}
		at := s.groupError(row, g, t, math.Inf(1))
		if c := s.groupError(row, g, pinned, at+cost) - at; c < cost {
			best, cost = g, c
		}
	}
	s.try.tables[best] = pinned
	return cost
}

// groupError is sum_j cost_j (w_j - w'_j)^2 over group g with the nearest code
// under table byte t. When the sum exceeds limit, what has been added so far
// is returned.
func (s *searcher) groupError(row []float32, g int, t uint8, limit float64) float64 {
	unit := s.grid.halfUlp(t, s.try.ch)
	table := &codeTables[s.grid-1][significand(t)].value
	w, cost := row[g*s.group:][:s.group], s.cost[g*s.group:][:s.group]
	area := float64(unit) * float64(unit)
	if float64(s.amax[g]) >= float64(unit)*span {
		return math.Inf(1) // a weight beyond the table: hopelessly clipped
	}
	k := 1 / unit
	var sum float64
	for from := 0; from < len(w); from += 32 {
		to := min(from+32, len(w))
		sum += float64(weightedSquares(w[from:to], cost[from:to], k, table))
		if sum*area > limit {
			break
		}
	}
	return sum * area
}

// weightedSquares is sum c_j (w_j*k - value(w_j*k))^2, in a fixed order on every
// processor: the conversions forbid fused multiply-adds. The lengths are equal and
// a multiple of 4.
func weightedSquares(w, cost []float32, k float32, table *[2 * span]float32) float32 {
	var a, b float32
	for len(w) >= 4 && len(cost) >= 4 {
		y0, y1, y2, y3 := w[0]*k, w[1]*k, w[2]*k, w[3]*k
		d0 := y0 - table[(span+int(y0))&(2*span-1)]
		d1 := y1 - table[(span+int(y1))&(2*span-1)]
		d2 := y2 - table[(span+int(y2))&(2*span-1)]
		d3 := y3 - table[(span+int(y3))&(2*span-1)]
		a += float32(float32(d0*d0)*cost[0]) + float32(float32(d1*d1)*cost[1])
		b += float32(float32(d2*d2)*cost[2]) + float32(float32(d3*d3)*cost[3])
		w, cost = w[4:], cost[4:]
	}
	return a + b
}
