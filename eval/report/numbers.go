package report

import (
	"fmt"
	"math"
)

// numbers is every number of the report to the last bit, for people who copy them.
func (r *Report) numbers() Section {
	s := Section{ID: "numbers", Title: "All numbers"}
	tables := []Table{r.resultNumbers(), r.sizeNumbers(), r.layerNumbers(), r.channelNumbers(), r.siteNumbers(), r.scaleNumbers()}
	for _, t := range append(tables, r.roundingNumbers()...) {
		s.table(t)
	}
	return s
}

func (r *Report) resultNumbers() Table {
	t := Table{ID: "number-results", Caption: "Evaluation", Columns: columns(
		text("model"), text("arithmetic"), text("text"), number("window"), number("windows"), number("tokens"), number("nll"), number("perplexity"),
		number("base_perplexity"), number("ln_ppl_ratio"), number("ci95_low"), number("ci95_high"), number("kl_mean"), number("kl_median"), number("kl_p999"), number("top1_agreement"))}
	for _, e := range r.Results {
		row := []Cell{text(e.Model), text(e.Arithmetic), text(e.Text), integer(e.Window), integer(e.Windows), integer(e.Tokens), value(e.NLL), value(e.Perplexity)}
		nan := math.NaN()
		rest := []float64{nan, nan, nan, nan, nan, nan, nan, nan}
		if c := e.Comparison; c != nil {
			rest = []float64{nan, c.LnPPLRatio, nan, nan, c.KLMean, c.KLMedian, c.KLP999, c.Top1Agreement}
			if c.Base != nil {
				rest[0] = c.Base.Perplexity
			}
			if c.CI95 != nil {
				rest[2], rest[3] = c.CI95[0], c.CI95[1]
			}
		}
		for _, v := range rest {
			row = append(row, value(v))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (r *Report) sizeNumbers() Table {
	t := Table{ID: "number-sizes", Caption: "Tensor data, bytes", Columns: columns(text("part"), number("base"), number("quantized"))}
	for _, p := range append(append([]Size{}, r.Sizes...), Size{"all", r.Bytes}) {
		t.Rows = append(t.Rows, []Cell{text(p.Part), value(p.Before), value(p.After)})
	}
	return t
}

func (r *Report) layerNumbers() Table {
	t := Table{ID: "number-layers", Caption: "Rounding, by linear", Columns: columns(
		text("linear"), number("n"), number("k"), number("snr_db"), number("cosine"), number("relative_error"), number("sse"), number("energy"),
		number("floor_rows"), number("lifted_groups"), number("clipped_codes"), number("dead_columns"), number("damp"), number("loss"), number("loss_rtn"), number("output_snr_db"), number("output_cosine"))}
	for _, l := range r.Layers {
		t.Rows = append(t.Rows, []Cell{
			name(l.Name), integer(l.N), integer(l.K), value(l.SNRdB), value(known4(l.Cosine)), value(l.Relative), value(l.SSE), value(l.Energy),
			integer(l.FloorRows), integer(l.LiftedGroups), integer(l.ClippedCodes), integer(l.DeadColumns), value(l.Damp), value(l.Loss), value(l.LossRTN), value(known4(l.OutputSNR)), value(known4(l.OutputCosine)),
		})
	}
	return t
}

func (r *Report) channelNumbers() Table {
	t := Table{ID: "number-channels", Caption: "Channels of the weights that stand out most: ratio, channel, channels over the bound", Columns: columns(
		text("linear"), number("base_ratio"), number("base_channel"), number("base_over"), number("ratio"), number("channel"), number("over"))}
	for _, c := range r.Channels {
		t.Rows = append(t.Rows, append(append([]Cell{name(c.Linear)}, peakNumbers(c.Before)...), peakNumbers(c.After)...))
	}
	return t
}

func peakNumbers(p *Peak) []Cell {
	if p == nil {
		p = &Peak{Ratio: math.NaN(), Channel: -1}
	}
	cells := []Cell{value(p.Ratio), number(none), integer(p.Over)}
	if p.Channel >= 0 {
		cells[1] = integer(p.Channel)
	} else {
		cells[2] = number(none)
	}
	return cells
}

func (r *Report) siteNumbers() Table {
	t := Table{ID: "number-activations", Caption: "Channels of the activations that stand out most", Columns: columns(
		number("block"), text("activation"), number("base_ratio"), number("base_channel"), number("base_over"), number("ratio"), number("channel"), number("over"), number("cached_ratio"))}
	if r.Activations == nil {
		return t
	}
	for _, p := range r.Activations.Sites {
		row := append([]Cell{integer(p.Block), text(p.Point)}, peakNumbers(&p.Before)...)
		row = append(row, peakNumbers(&p.After)...)
		cached := math.NaN()
		if p.Cached != nil {
			cached = p.Cached.Ratio
		}
		t.Rows = append(t.Rows, append(row, value(cached)))
	}
	return t
}

func (r *Report) scaleNumbers() Table {
	t := Table{ID: "number-scales", Caption: "Scales and codes", Columns: columns(text("what"), number("count"))}
	c := r.Scales
	if c == nil {
		return t
	}
	row := func(name string, n int64) { t.Rows = append(t.Rows, []Cell{text(name), integer(n)}) }
	row("scales", c.Count)
	if c.S8 != nil {
		row("s8 at 448", c.Largest)
		row("s8 subnormal", c.Subnormal)
		row("s8 zero", c.Zero)
		for i, n := range c.Codes {
			row(fmt.Sprintf("code %d", i-8), n)
		}
	}
	if c.FP8Codes > 0 {
		row("FP8 codes", c.FP8Codes)
		row("FP8 codes at ±448", c.Saturated)
	}
	for _, h := range c.Log2 {
		row(fmt.Sprintf("scales from 2^%g", float64(h.Exponent)/2), h.Count)
	}
	return t
}
