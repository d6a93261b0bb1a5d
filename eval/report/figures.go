package report

import (
	"fmt"
	"math"
	"slices"

	"quantize/eval"
	"quantize/eval/report/chart"
)

// sizeFigure is a bar for each checkpoint, cut into parts.
func (r *Report) sizeFigure() Figure {
	base := chart.StackRow{Name: "base", Total: size(r.Bytes.Before)}
	out := chart.StackRow{Name: "quantized", Total: size(r.Bytes.After)}
	f := Figure{Title: "Tensor data by part of the model", Wide: true}
	for i, p := range r.Sizes {
		base.Parts = append(base.Parts, chart.Part{Value: p.Before, Title: p.Part + " " + size(p.Before)})
		out.Parts = append(out.Parts, chart.Part{Value: p.After, Title: p.Part + " " + size(p.After)})
		f.Legend = append(f.Legend, Key{chart.Block(i), p.Part})
	}
	s := chart.Stack{Title: f.Title, Rows: []chart.StackRow{out}}
	if !math.IsNaN(r.Bytes.Before) {
		s.Rows = []chart.StackRow{base, out}
	}
	f.SVG = s.SVG()
	return f
}

// windowFigure shows how far windows of the text agree.
func windowFigure(e *eval.Report) Figure {
	f := Figure{Title: "Change of perplexity by window of the text"}
	if e.Comparison == nil || len(e.WindowLnRatio) == 0 {
		return f
	}
	s := chart.Series{Name: "window"}
	for i, v := range e.WindowLnRatio {
		s.Points = append(s.Points, chart.Point{X: float64(i + 1), Y: v})
	}
	l := chart.Lines{
		Title: f.Title, X: chart.Axis{Label: "window", Integer: true}, Y: chart.Axis{Label: "ln(PPL ratio)"},
		Series: []chart.Series{s}, Dots: true, Zero: true, Band: e.CI95,
	}
	f.SVG = l.SVG()
	if e.CI95 != nil {
		f.Caption = "Shaded: the 95 % interval of the mean, by Student's t over windows. "
	}
	f.Caption += "Above zero the quantized model is worse."
	return f
}

// byProjection makes a series of each projection over the blocks.
func byProjection[T any](items []T, at func(T) (projection string, block int, y float64)) []chart.Series {
	var series []chart.Series
	for _, item := range items {
		name, block, y := at(item)
		i := slices.IndexFunc(series, func(s chart.Series) bool { return s.Name == name })
		if i < 0 {
			i = len(series)
			series = append(series, chart.Series{Name: name})
		}
		series[i].Points = append(series[i].Points, chart.Point{X: float64(block), Y: y})
	}
	return series
}

// blocks is a figure with the blocks of the model along its lower edge.
func blocks(title, caption string, y chart.Axis, series []chart.Series) Figure {
	l := chart.Lines{Title: title, X: chart.Axis{Label: "block", Integer: true}, Y: y, Series: series}
	return Figure{Title: title, Caption: caption, Legend: legend(series), SVG: l.SVG()}
}

// channelPlot is a figure with channels along its lower edge.
func channelPlot(title, caption string, rows []Magnitude) Figure {
	var series []chart.Series
	for _, m := range rows {
		s := chart.Series{Name: m.Name}
		for k, v := range m.Channels {
			s.Points = append(s.Points, chart.Point{X: float64(k), Y: v})
		}
		series = append(series, s)
	}
	l := chart.Lines{
		Title: title, X: chart.Axis{Label: "channel", Integer: true}, Y: chart.Axis{Label: "max |x|, log scale", Log: true},
		Series: series, Plain: true,
	}
	return Figure{Title: title, Caption: caption, Legend: legend(series), SVG: l.SVG()}
}

// s8Figure is the histogram of the group scales as E4M3 codes.
func s8Figure(s *Scales) Figure {
	first := slices.IndexFunc(s.S8, func(n int64) bool { return n > 0 })
	f := Figure{Title: "Group scales on the E4M3 grid"}
	if first < 0 {
		return f
	}
	first = first / 8 * 8
	b := chart.Bars{Title: f.Title, X: "s8, one bar for each E4M3 value", Y: "groups"}
	for c, n := range s.S8[first:] {
		code := first + c
		b.Bins = append(b.Bins, chart.Bin{Label: fmt.Sprintf("%g", e4m3Value(code)), Value: float64(n), Mark: code == e4m3Largest || code < e4m3Normal})
	}
	b.LabelAt = func(i int) bool { return (first+i)%8 == 0 || first+i == e4m3Largest }
	f.SVG = b.SVG()
	f.Caption = fmt.Sprintf("Coloured apart: %d of %d groups at 448, the largest (one in every row by design); %d subnormal, %d zero.", s.Largest, s.Count, s.Subnormal, s.Zero)
	return f
}

// e4m3Value is the value of a positive E4M3 code.
func e4m3Value(code int) float64 {
	e, m := code>>3, float64(code&7)
	if e == 0 {
		return math.Ldexp(m/8, -6)
	}
	return math.Ldexp(1+m/8, e-7)
}

// log2Figure is the histogram of the stored scales.
func log2Figure(s *Scales) Figure {
	f := Figure{Title: "Stored scales", Caption: "Bars of half an octave, named by their lower edge."}
	if len(s.Log2) == 0 {
		return f
	}
	b := chart.Bars{Title: f.Title, X: "log2(scale)", Y: "scales"}
	at := 0
	for e := s.Log2[0].Exponent; e <= s.Log2[len(s.Log2)-1].Exponent; e++ {
		bin := chart.Bin{Label: fmt.Sprintf("%g", float64(e)/2)}
		if s.Log2[at].Exponent == e {
			bin.Value = float64(s.Log2[at].Count)
			at++
		}
		b.Bins = append(b.Bins, bin)
	}
	f.SVG = b.SVG()
	return f
}

// codeFigure is the histogram of the INT4 codes.
func codeFigure(s *Scales) Figure {
	f := Figure{Title: "INT4 codes", Caption: "Coloured apart: the ends of the range."}
	total := 0.0
	for _, n := range s.Codes {
		total += float64(n)
	}
	if total == 0 {
		return f
	}
	b := chart.Bars{Title: f.Title, X: "code", Y: "share, %"}
	for i, n := range s.Codes {
		b.Bins = append(b.Bins, chart.Bin{Label: fmt.Sprint(i - 8), Value: 100 * float64(n) / total, Mark: i == 0 || i == 15})
	}
	f.SVG = b.SVG()
	return f
}
