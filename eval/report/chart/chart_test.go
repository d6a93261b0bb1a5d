package chart

import (
	"encoding/xml"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"testing"
)

// coordinates parses a drawing as strict XML and returns what lies on the canvas.
func coordinates(t *testing.T, svg template.HTML) (n int) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := d.Token()
		if token == nil {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range e.Attr {
			switch a.Name.Local {
			case "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "width", "height", "points":
				for field := range strings.FieldsFuncSeq(a.Value, func(r rune) bool { return r == ' ' || r == ',' }) {
					v, err := strconv.ParseFloat(field, 64)
					if err != nil || !(v >= -1 && v <= width+1) {
						t.Errorf("%s of %s is %q", a.Name.Local, e.Name.Local, a.Value)
					}
					n++
				}
			}
		}
	}
	return n
}

func TestDrawingsAreWellFormed(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	hostile := `<&"'>`
	for i, svg := range []template.HTML{
		(&Lines{Title: hostile, X: Axis{Label: hostile, Integer: true}, Y: Axis{Label: hostile}, Series: []Series{{hostile, []Point{{0, 1}, {1, nan}, {2, 3}}}}}).SVG(),
		(&Lines{Series: []Series{{"flat", []Point{{0, 2}, {1, 2}}}}}).SVG(),
		(&Lines{Series: []Series{{"one", []Point{{5, -3}}}}, Dots: true, Zero: true}).SVG(),
		(&Lines{Y: Axis{Log: true}, Series: []Series{{"log", []Point{{0, 0}, {1, -1}, {2, 1e-30}, {3, 1e30}, {4, inf}}}}}).SVG(),
		(&Lines{Band: &[2]float64{-1, 2}, Series: []Series{{"band", []Point{{0, 0.5}, {1, 0.6}}}}}).SVG(),
		(&Bars{Title: hostile, X: hostile, Y: hostile, Bins: []Bin{{hostile, 3, true}, {"b", nan, false}, {"c", inf, false}}}).SVG(),
		(&Stack{Title: hostile, Rows: []StackRow{{hostile, hostile, []Part{{1, hostile}, {nan, ""}, {2, ""}}}, {"x", "y", nil}}}).SVG(),
		Swatch(3), Block(9),
	} {
		if coordinates(t, svg) == 0 {
			t.Errorf("drawing %d is empty: %s", i, svg)
		}
		if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("drawing %d has a number that is none: %s", i, svg)
		}
	}
}

func TestNothingToDraw(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	for i, svg := range []template.HTML{
		(&Lines{}).SVG(),
		(&Lines{Band: &[2]float64{1, 2}, Series: []Series{{"", []Point{{0, nan}}}}}).SVG(),
		(&Lines{Y: Axis{Log: true, Min: 1, Max: 2}, Series: []Series{{"", []Point{{0, -1}}}}}).SVG(),
		(&Bars{}).SVG(), (&Bars{Bins: []Bin{{"", nan, false}, {"", 0, false}}}).SVG(),
		(&Stack{}).SVG(), (&Stack{Rows: []StackRow{{"", "", []Part{{nan, ""}}}}}).SVG(),
	} {
		if svg != "" {
			t.Errorf("drawing %d: %s", i, svg)
		}
	}
}

func TestTicksAreRoundAndFew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		axis   Axis
		values []float64
		want   string
	}{
		{Axis{}, []float64{15.2, 18.9}, "[16 17 18]"},
		{Axis{}, []float64{-0.02, 0.04}, "[-0.02 0 0.02 0.04]"},
		{Axis{Integer: true}, []float64{0, 3}, "[0 1 2 3]"},
		{Axis{Integer: true}, []float64{0, 79}, "[0 20 40 60]"},
		{Axis{Log: true}, []float64{1, 30}, "[1 2 5 10 20]"},
		{Axis{Log: true}, []float64{1, 4.5}, "[1 1.5 2 3 4]"},
		{Axis{Log: true}, []float64{1.01, 1.04}, "[1.01 1.02 1.03 1.04]"},
	} {
		s, ok := c.axis.fit(c.values, 0, 1)
		if !ok {
			t.Fatal(c.values)
		}
		var got []string
		for _, v := range s.ticks(5) {
			got = append(got, tick(v))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v, want %s", c.values, got, c.want)
		}
	}
	for v, want := range map[float64]string{0: "0", 2.5: "2.5", 12000: "12k", 3.5e6: "3.5M", 2e9: "2G", 1e-5: "1e-05", 1e13: "1e+13", -50000: "-50k"} {
		if got := tick(v); got != want {
			t.Errorf("%g: %q, want %q", v, got, want)
		}
	}
}

// TestLabelsOfBarsDoNotMeet measures the labels of many narrow bars.
func TestLabelsOfBarsDoNotMeet(t *testing.T) {
	t.Parallel()
	b := Bars{Y: "n"}
	for i := range 126 {
		b.Bins = append(b.Bins, Bin{Label: fmt.Sprint(1000 + i), Value: 1})
	}
	end := math.Inf(-1)
	d := xml.NewDecoder(strings.NewReader(string(b.SVG())))
	labels := 0
	for {
		token, _ := d.Token()
		if token == nil {
			break
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "text" || e.Attr[1].Value != num(plotBottom+18) {
			continue
		}
		x, _ := strconv.ParseFloat(e.Attr[0].Value, 64)
		if x-2*letterWidth <= end {
			t.Errorf("a label at %g meets the one before", x)
		}
		end = x + 2*letterWidth
		labels++
	}
	if labels < 5 {
		t.Errorf("%d labels", labels)
	}
}
