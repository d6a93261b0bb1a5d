package chart

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// The size of a plot and of the margins that its axes are written in.
const (
	width, height                  = 460.0, 280.0
	left, right, top, bottom       = 70.0, 14.0, 12.0, 50.0
	plotRight, plotBottom          = width - right, height - bottom
	letterWidth                    = 7.0 // of the mean letter at 13 units
	markers                        = 7   // shapes and colours before they repeat
	markerRadius, smallestDistance = 3.6, 9.0
)

// canvas collects the elements of one SVG.
type canvas struct{ b strings.Builder }

func newCanvas(label string, h float64) *canvas {
	c := &canvas{}
	c.add(`<svg class="chart" role="img" viewBox="0 0 %s %s" aria-label="%s"><title>%[3]s</title>`, num(width), num(h), html.EscapeString(label))
	return c
}

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(&c.b, format, args...) }

// done ends the drawing. Every text in it went through html.EscapeString.
func (c *canvas) done() template.HTML {
	c.b.WriteString("</svg>")
	return template.HTML(c.b.String())
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.add(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, num(x1), num(y1), num(x2), num(y2))
}

func (c *canvas) rect(class string, x, y, w, h float64, title string) {
	c.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s">`, class, num(x), num(y), num(w), num(h))
	if title != "" {
		c.add(`<title>%s</title>`, html.EscapeString(title))
	}
	c.add(`</rect>`)
}

// text writes s at x, y; anchor is start, middle or end.
func (c *canvas) text(x, y float64, anchor, s string) {
	c.add(`<text x="%s" y="%s" text-anchor="%s">%s</text>`, num(x), num(y), anchor, html.EscapeString(s))
}

// labels names both axes, the vertical one from the bottom up.
func (c *canvas) labels(x, y string) {
	c.text((left+plotRight)/2, height-8, "middle", x)
	c.add(`<text transform="translate(15 %s) rotate(-90)" text-anchor="middle">%s</text>`, num((top+plotBottom)/2), html.EscapeString(y))
}

// marker draws the shape of series i.
func (c *canvas) marker(i int, x, y float64, title string) {
	r := markerRadius
	at := func(points ...float64) string {
		var s []string
		for k := 0; k < len(points); k += 2 {
			s = append(s, num(x+r*points[k])+","+num(y+r*points[k+1]))
		}
		return strings.Join(s, " ")
	}
	shapes := [markers]string{
		1: at(-.9, -.9, .9, -.9, .9, .9, -.9, .9),
		2: at(0, -1.2, 1.15, .9, -1.15, .9),
		3: at(0, -1.3, 1.3, 0, 0, 1.3, -1.3, 0),
		4: at(0, 1.2, 1.15, -.9, -1.15, -.9),
		5: at(-.4, -1.2, .4, -1.2, .4, -.4, 1.2, -.4, 1.2, .4, .4, .4, .4, 1.2, -.4, 1.2, -.4, .4, -1.2, .4, -1.2, -.4, -.4, -.4),
		6: at(-1.2, 0, -.6, -1.04, .6, -1.04, 1.2, 0, .6, 1.04, -.6, 1.04),
	}
	c.add(`<g class="c%d">`, i%markers)
	if s := shapes[i%markers]; s == "" {
		c.add(`<circle class="mark" cx="%s" cy="%s" r="%s">`, num(x), num(y), num(r))
		c.add(`<title>%s</title></circle>`, html.EscapeString(title))
	} else {
		c.add(`<polygon class="mark" points="%s"><title>%s</title></polygon>`, s, html.EscapeString(title))
	}
	c.add(`</g>`)
}

// Swatch is the sign of series i in a legend.
func Swatch(i int) template.HTML {
	c := &canvas{}
	c.add(`<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true"><g class="c%d">`, i%markers)
	c.line("trace", 1, 6, 25, 6)
	c.add(`</g>`)
	c.marker(i, 13, 6, "")
	return c.done()
}

// Block is the sign of part i of a bar in a legend.
func Block(i int) template.HTML {
	c := &canvas{}
	c.add(`<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true"><g class="c%d">`, i%markers)
	c.rect("bar", 4, 0, 18, 12, "")
	c.add(`</g>`)
	return c.done()
}

// num writes a coordinate with at most two decimals.
func num(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
