package chart

import (
	"math"
	"strconv"
)

// Axis is one axis of a plot.
type Axis struct {
	Label string // with its unit
	Log   bool   // of values above zero; others leave a gap
	// Integer puts ticks at whole numbers only.
	Integer bool
	// Min and Max widen the range beyond that of the values; both 0: they do not.
	Min, Max float64
}

// scale maps values to a stretch of the canvas.
type scale struct {
	Axis
	from, to float64 // of the values, logarithms where Log
	a, b     float64 // of the canvas
}

// fit makes the scale of an axis for values; ok is false where none can be drawn.
func (x Axis) fit(values []float64, a, b float64) (s scale, ok bool) {
	s = scale{Axis: x, from: math.Inf(1), to: math.Inf(-1), a: a, b: b}
	if x.Min != 0 || x.Max != 0 {
		values = append(append([]float64{}, values...), x.Min, x.Max)
	}
	for _, v := range values {
		if v = s.linear(v); finite(v) {
			s.from, s.to, ok = min(s.from, v), max(s.to, v), true
		}
	}
	if !ok {
		return s, false
	}
	if s.from == s.to { // a flat line lies in the middle
		pad := max(math.Abs(s.from)*0.1, 0.5)
		if x.Log {
			pad = 0.3
		}
		s.from, s.to = s.from-pad, s.to+pad
	}
	return s, true
}

// pad leaves a share of the range free at both ends.
func (s *scale) pad(share float64) {
	d := (s.to - s.from) * share
	s.from, s.to = s.from-d, s.to+d
}

func (s *scale) linear(v float64) float64 {
	if s.Log {
		return math.Log10(v) // not finite for v <= 0
	}
	return v
}

// at is the place of v on the canvas; ok is false where it has none.
func (s *scale) at(v float64) (x float64, ok bool) {
	l := s.linear(v)
	if !finite(l) {
		return 0, false
	}
	return s.a + (l-s.from)/(s.to-s.from)*(s.b-s.a), true
}

// ticks lists round values inside the range, about most of them.
func (s *scale) ticks(most int) []float64 {
	if s.Log {
		if ticks := s.logTicks(most); len(ticks) > 1 {
			return ticks
		}
		plain := scale{from: math.Pow(10, s.from), to: math.Pow(10, s.to)}
		return plain.ticks(most)
	}
	raw := (s.to - s.from) / float64(most)
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5, 10} {
		if f*step >= raw {
			step *= f
			break
		}
	}
	if s.Integer {
		step = max(math.Ceil(step), 1)
	}
	var ticks []float64
	for k := math.Ceil(s.from/step - 1e-9); k*step <= s.to+step*1e-9; k++ {
		ticks = append(ticks, k*step+0) // +0: no negative zero
	}
	return ticks
}

// logTicks takes as many round values of each decade as there is room for.
func (s *scale) logTicks(most int) []float64 {
	for _, digits := range [][]float64{{1, 1.5, 2, 3, 4, 5, 7}, {1, 2, 5}, {1, 3}, {1}} {
		var ticks []float64
		for e := math.Floor(s.from); e <= s.to; e++ {
			for _, d := range digits {
				if v := d * math.Pow(10, e); math.Log10(v) >= s.from-1e-9 && math.Log10(v) <= s.to+1e-9 {
					ticks = append(ticks, v)
				}
			}
		}
		if len(ticks) <= most+1 {
			return ticks
		}
	}
	return nil
}

// tick writes a round value in at most six letters, which is what the margin holds.
func tick(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e12 || a != 0 && a < 1e-3:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case a >= 1e9:
		return tick(v/1e9) + "G"
	case a >= 1e6:
		return tick(v/1e6) + "M"
	case a >= 1e4:
		return tick(v/1e3) + "k"
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

// frame draws the grid, both axes with their ticks, and their names.
func (c *canvas) frame(x, y *scale) {
	for _, v := range y.ticks(5) {
		at, _ := y.at(v)
		c.line("grid", left, at, plotRight, at)
		c.text(left-7, at+4.5, "end", tick(v))
	}
	for _, v := range x.ticks(7) {
		at, _ := x.at(v)
		c.line("axis", at, plotBottom, at, plotBottom+4)
		c.text(at, plotBottom+18, "middle", tick(v))
	}
	c.line("axis", left, plotBottom, plotRight, plotBottom)
	c.labels(x.Label, y.Label)
}
