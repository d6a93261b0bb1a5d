package chart

import (
	"fmt"
	"html/template"
)

// Point is one value of a series.
type Point struct{ X, Y float64 }

// Series is a named row of points.
type Series struct {
	Name   string
	Points []Point
}

// Lines is a plot of one or more series.
type Lines struct {
	Title  string // said by screen readers
	X, Y   Axis
	Series []Series
	Dots   bool        // markers only
	Plain  bool        // lines only
	Band   *[2]float64 // a range of Y to shade
	Zero   bool        // a line at Y = 0, in the range
}

// SVG draws the plot; nothing where no point is finite.
func (l *Lines) SVG() template.HTML {
	var xs, ys []float64
	for _, s := range l.Series {
		for _, p := range s.Points {
			if finite(p.X) && finite(p.Y) && !(l.Y.Log && p.Y <= 0) {
				xs, ys = append(xs, p.X), append(ys, p.Y)
			}
		}
	}
	if len(xs) == 0 {
		return ""
	}
	if l.Band != nil {
		ys = append(ys, l.Band[0], l.Band[1])
	}
	if l.Zero {
		ys = append(ys, 0)
	}
	x, okX := l.X.fit(xs, left, plotRight)
	y, okY := l.Y.fit(ys, plotBottom, top)
	if !okX || !okY {
		return ""
	}
	x.pad(0.03)
	y.pad(0.06)
	c := newCanvas(l.Title, height)
	if b := l.Band; b != nil && finite(b[0]) && finite(b[1]) {
		low, _ := y.at(b[0])
		high, _ := y.at(b[1])
		c.rect("band", left, min(high, low), plotRight-left, max(high, low)-min(high, low), fmt.Sprintf("%g to %g", b[0], b[1]))
	}
	c.frame(&x, &y)
	if zero, ok := y.at(0); ok && l.Zero {
		c.line("axis", left, zero, plotRight, zero)
	}
	for i, s := range l.Series {
		l.draw(c, i, s, &x, &y)
	}
	return c.done()
}

func (l *Lines) draw(c *canvas, i int, s Series, x, y *scale) {
	type place struct {
		x, y  float64
		value Point
	}
	var run []place
	var marks []place
	trace := func() {
		if len(run) > 1 && !l.Dots {
			c.add(`<polyline class="trace c%d" points="`, i%markers)
			for k, p := range run {
				if k > 0 {
					c.add(" ")
				}
				c.add("%s,%s", num(p.x), num(p.y))
			}
			c.add(`"/>`)
		}
		run = nil
	}
	for _, p := range s.Points {
		px, okX := x.at(p.X)
		py, okY := y.at(p.Y)
		if !okX || !okY {
			trace() // a gap
			continue
		}
		run = append(run, place{px, py, p})
		// Markers closer than their size hide the line.
		if n := len(marks); !l.Plain && (l.Dots || n == 0 || px-marks[n-1].x >= smallestDistance) {
			marks = append(marks, place{px, py, p})
		}
	}
	trace()
	for _, m := range marks {
		c.marker(i, m.x, m.y, fmt.Sprintf("%s, %s %s: %.5g", s.Name, l.X.Label, tick(m.value.X), m.value.Y))
	}
}
