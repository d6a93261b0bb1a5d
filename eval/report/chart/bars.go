package chart

import (
	"fmt"
	"html/template"
	"math"
)

// Bin is one bar of a histogram.
type Bin struct {
	Label string
	Value float64
	Mark  bool // in the second colour
}

// Bars is a histogram.
type Bars struct {
	Title string
	X, Y  string // labels, with units
	Bins  []Bin
	// LabelAt says which bins may carry their label; nil: all, as far as there is room.
	LabelAt func(i int) bool
}

// SVG draws the histogram; nothing where no value is above zero.
func (b *Bars) SVG() template.HTML {
	highest := 0.0
	for _, bin := range b.Bins {
		if finite(bin.Value) {
			highest = max(highest, bin.Value)
		}
	}
	if highest == 0 {
		return ""
	}
	y, _ := Axis{Label: b.Y}.fit([]float64{0, highest * 1.05}, plotBottom, top)
	c := newCanvas(b.Title, height)
	for _, v := range y.ticks(5) {
		at, _ := y.at(v)
		c.line("grid", left, at, plotRight, at)
		c.text(left-7, at+4.5, "end", tick(v))
	}
	step := (plotRight - left) / float64(len(b.Bins))
	gap := min(step*0.15, 3)
	free := math.Inf(-1) // right end of the last label
	for i, bin := range b.Bins {
		x := left + float64(i)*step
		class := "c0"
		if bin.Mark {
			class = "c1"
		}
		if at, ok := y.at(bin.Value); ok && bin.Value > 0 {
			c.add(`<g class="%s">`, class)
			c.rect("bar", x+gap/2, at, step-gap, plotBottom-at, fmt.Sprintf("%s: %.6g", bin.Label, bin.Value))
			c.add(`</g>`)
		}
		half := float64(len([]rune(bin.Label))) * letterWidth / 2
		centre := x + step/2
		if (b.LabelAt == nil || b.LabelAt(i)) && centre-half > free+4 && centre+half < width {
			c.line("axis", centre, plotBottom, centre, plotBottom+4)
			c.text(centre, plotBottom+18, "middle", bin.Label)
			free = centre + half
		}
	}
	c.line("axis", left, plotBottom, plotRight, plotBottom)
	c.labels(b.X, b.Y)
	return c.done()
}

// Part is a part of a row of [Stack].
type Part struct {
	Value float64
	Title string
}

// StackRow is one bar of [Stack]: the parts lie one after the other.
type StackRow struct {
	Name, Total string
	Parts       []Part
}

// Stack is a set of horizontal bars on one scale that starts at zero.
type Stack struct {
	Title string
	Rows  []StackRow
}

// SVG draws the bars; nothing where all of them are empty.
func (s *Stack) SVG() template.HTML {
	const rowHeight, barHeight, nameHeight = 62.0, 30.0, 20.0
	longest := 0.0
	for _, r := range s.Rows {
		longest = max(longest, r.sum())
	}
	if longest == 0 {
		return ""
	}
	c := newCanvas(s.Title, rowHeight*float64(len(s.Rows)))
	for i, r := range s.Rows {
		y := rowHeight * float64(i)
		c.text(1, y+nameHeight-5, "start", r.Name)
		c.text(width-1, y+nameHeight-5, "end", r.Total)
		x := 1.0
		for k, p := range r.Parts {
			if w := p.Value / longest * (width - 2); finite(w) && w > 0 {
				c.add(`<g class="c%d">`, k%markers)
				c.rect("bar part", x, y+nameHeight, w, barHeight, p.Title)
				c.add(`</g>`)
				x += w
			}
		}
	}
	return c.done()
}

func (r StackRow) sum() float64 {
	sum := 0.0
	for _, p := range r.Parts {
		if finite(p.Value) && p.Value > 0 {
			sum += p.Value
		}
	}
	return sum
}
