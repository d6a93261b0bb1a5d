package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"quantize/eval/report/chart"
)

// errors shows what rounding did to the weights and to the outputs on the
// calibration text.
func (r *Report) errors() Section {
	s := Section{ID: "errors", Title: "Rounding error"}
	if len(r.Layers) == 0 {
		return s
	}
	s.say("Of each weight against the one that was rounded, after smoothing, rotation and RoPE scales. More decibels are better: 6 dB halve the error.")
	s.figure(blocks("Weight SNR", "10 log10(Σw² / Σ(w−w′)²).", chart.Axis{Label: "SNR, dB"},
		byProjection(r.Layers, func(l Layer) (string, int, float64) { return l.Projection, l.Block, l.SNRdB })))
	s.figure(blocks("Relative error of the weights", "√(Σ(w−w′)² / Σw²).", chart.Axis{Label: "relative error, %"},
		byProjection(r.Layers, func(l Layer) (string, int, float64) { return l.Projection, l.Block, 100 * l.Relative })))
	s.figure(blocks("Output error on the calibration text", "Squared error of the outputs with error propagation (GPTQ), as a share of that of the nearest codes under the same scales.",
		chart.Axis{Label: "share of RTN's, %"},
		byProjection(r.Layers, func(l Layer) (string, int, float64) { return l.Projection, l.Block, 100 * outputShare(l) })))
	worst := slices.Clone(r.Layers)
	slices.SortStableFunc(worst, func(a, b Layer) int { return cmp.Compare(a.SNRdB, b.SNRdB) })
	t := Table{Caption: "The lowest SNR", Columns: columns(text("Linear"), number("N"), number("K"), number("SNR, dB"), number("Relative error"))}
	for _, l := range worst[:min(len(worst), 5)] {
		t.Rows = append(t.Rows, []Cell{name(l.Name), integer(l.N), integer(l.K), number(fixed(l.SNRdB, 2)), number(percent(l.Relative, false))})
	}
	s.table(t)
	return s
}

// outputShare compares the losses; NaN where rounding propagated nothing.
func outputShare(l Layer) float64 {
	if !(l.LossRTN > 0) {
		return math.NaN()
	}
	return l.Loss / l.LossRTN
}

// channels shows how far input channels of the weights stand out.
func (r *Report) channels() Section {
	s := Section{ID: "channels", Title: "Outlier channels of the weights"}
	if len(r.Channels) == 0 {
		return s
	}
	s.say("The largest weight of an input channel over that of the median channel; the channel that stands out most of each linear. "+
		"A group of weights shares one scale, so a channel far above the others costs them their precision. Counted: channels over %d times the median.", OutlierRatio)
	var before, after []Channels
	y := chart.Axis{Label: "largest / median, log scale", Log: true, Min: 1}
	for _, c := range r.Channels {
		if c.Before != nil {
			before = append(before, c)
			y.Max = raise(y.Max, c.Before.Ratio)
		}
		after = append(after, c)
		y.Max = raise(y.Max, c.After.Ratio)
	}
	y.Max = max(y.Max, y.Min)
	s.figure(blocks("Base", "As stored in the base checkpoint.", y,
		byProjection(before, func(c Channels) (string, int, float64) { return c.Projection, c.Block, c.Before.Ratio })))
	s.figure(blocks("Quantized", "As stored: smoothing, rotation and RoPE scales folded in, rounded. Same scale as the base's.", y,
		byProjection(after, func(c Channels) (string, int, float64) { return c.Projection, c.Block, c.After.Ratio })))
	s.table(r.channelTable())
	return s
}

func raise(top, v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return top
	}
	return max(top, v)
}

// channelTable lists the linears whose channels stand out most, before or after.
func (r *Report) channelTable() Table {
	highest := func(c Channels) float64 {
		top := raise(0, c.After.Ratio)
		if c.Before != nil {
			top = raise(top, c.Before.Ratio)
		}
		return top
	}
	worst := slices.Clone(r.Channels)
	slices.SortStableFunc(worst, func(a, b Channels) int { return cmp.Compare(highest(b), highest(a)) })
	t := Table{Caption: "The linears with the largest ratios", Columns: columns(text("Linear"), number("Base"), number("Channel"), number("Over"), number("Quantized"), number("Channel"), number("Over"))}
	for _, c := range worst[:min(len(worst), 8)] {
		row := append([]Cell{name(c.Linear)}, peakCells(c.Before)...)
		t.Rows = append(t.Rows, append(row, peakCells(c.After)...))
	}
	return t
}

// peakCells are ratio, channel and count.
func peakCells(p *Peak) []Cell {
	if p == nil || p.Channel < 0 {
		return []Cell{number(none), number(none), number(none)}
	}
	return []Cell{number(fixed(p.Ratio, 2)), integer(p.Channel), integer(p.Over)}
}

// activations shows the channels of both models on a text.
func (r *Report) activations() Section {
	s := Section{ID: "activations", Title: "Activations, keys and values"}
	a := r.Activations
	if a == nil {
		return s
	}
	s.say("Both models on %s: %d windows, %d tokens. Each in the basis that its linears read: rotation and smoothing are part of the quantized model.", a.Text, a.Windows, a.Tokens)
	y := chart.Axis{Label: "largest / median, log scale", Log: true, Min: 1}
	for _, p := range a.Sites {
		y.Max = raise(raise(y.Max, p.Before.Ratio), p.After.Ratio)
	}
	y.Max = max(y.Max, y.Min)
	s.figure(blocks("Channels that stand out, base", "max |x| of the largest channel over that of the median one.", y,
		byProjection(a.Sites, func(p SitePeak) (string, int, float64) { return p.Point, p.Block, p.Before.Ratio })))
	s.figure(blocks("Channels that stand out, quantized", "Same scale as the base's.", y,
		byProjection(a.Sites, func(p SitePeak) (string, int, float64) { return p.Point, p.Block, p.After.Ratio })))
	s.figure(channelPlot(fmt.Sprintf("Keys of block %d before RoPE", a.Block), "The block whose keys have the most outstanding channel in the base; channels of all KV heads in order.", a.KeysPre))
	s.figure(channelPlot(fmt.Sprintf("Keys of block %d after RoPE", a.Block), "The same block, as keys are multiplied with queries.", a.KeysPost))
	s.figure(channelPlot(fmt.Sprintf("Values of block %d", a.VBlock), "The block whose values have the most outstanding channel in the base.", a.Values))
	return s
}

// scales shows where the scales lie on their grids.
func (r *Report) scales() Section {
	s := Section{ID: "scales", Title: "Scales and codes"}
	c := r.Scales
	if c == nil {
		return s
	}
	if c.S8 != nil {
		s.say("vLLM's W4A8 kernel holds the scale of a group as E4M3, s8, times one factor for each row. A value at 448 uses the whole range; subnormal ones have fewer than four significant bits.")
	}
	if c.FP8Codes > 0 {
		s.say("%d of %d FP8 codes are at ±448: every row has one by design.", c.Saturated, c.FP8Codes)
	}
	s.figure(s8Figure(c))
	s.figure(log2Figure(c))
	s.figure(codeFigure(c))
	return s
}

// attention shows what is left to do at run time.
func (r *Report) attention() Section {
	s := Section{ID: "attention", Title: "Attention and KV cache"}
	a := r.Attention
	t := Table{Caption: "Plan", Columns: columns(text("What"), text("How"))}
	row := func(name, value string) { t.Rows = append(t.Rows, []Cell{text(name), text(value)}) }
	row("KV cache", a.Scheme)
	if a.Plan != "" {
		row("queries, keys and probabilities", a.Plan+"; followed by this program's kernels alone")
	}
	if a.MinCosine > 0 {
		row("budget of a layer's worst head", fmt.Sprintf("cosine %g to exact attention", a.MinCosine))
	}
	row("heads", fmt.Sprintf("%d of %d channels, %d of keys and values", a.Heads, a.HeadDim, a.KVHeads))
	row("cache of a token", fmt.Sprintf("%s in all layers, %d bits a number, scales left out", size(float64(a.BytesPerToken)), a.Bits))
	if a.Down != "" {
		row("input of down", "rotated at run time: "+a.Down)
	}
	if a.Sidecar {
		row("described by", "quantize/attention.safetensors")
	} else {
		row("described by", "config.json alone; the checkpoint has no sidecar")
	}
	s.table(t)
	s.table(a.layerTable())
	return s
}

// layerTable has the columns that some layer has a number in.
func (a *Attention) layerTable() Table {
	t := Table{ID: "attention-layers", Caption: "By layer", Columns: columns(number("Block"))}
	for _, l := range a.Layers {
		t.Rows = append(t.Rows, []Cell{integer(l.Block)})
	}
	if a.Plan != "" {
		t.Columns = append(t.Columns, columns(text("Attention"))...)
		for i, l := range a.Layers {
			t.Rows[i] = append(t.Rows[i], text(l.Mode))
		}
	}
	for _, c := range []struct {
		name string
		of   func(AttentionLayer) float64
	}{
		{"Key scale, least", func(l AttentionLayer) float64 { return l.KeyScale[0] }},
		{"Key scale, largest", func(l AttentionLayer) float64 { return l.KeyScale[1] }},
		{"Key mean, largest", func(l AttentionLayer) float64 { return l.KeyMean }},
		{"Value mean, largest", func(l AttentionLayer) float64 { return l.ValueMean }},
		{"k_scale", func(l AttentionLayer) float64 { return l.KeyStatic }},
		{"v_scale", func(l AttentionLayer) float64 { return l.ValStatic }},
		{"Cosine", func(l AttentionLayer) float64 { return l.Cosine }},
		{"Cosine, worst head", func(l AttentionLayer) float64 { return l.WorstCosine }},
		{"Relative L1", func(l AttentionLayer) float64 { return l.RelativeL1 }},
	} {
		if !slices.ContainsFunc(a.Layers, func(l AttentionLayer) bool { return !math.IsNaN(c.of(l)) }) {
			continue
		}
		t.Columns = append(t.Columns, number(c.name))
		for i, l := range a.Layers {
			cell := none
			if v := c.of(l); !math.IsNaN(v) {
				cell = fmt.Sprintf("%.6g", v)
			}
			t.Rows[i] = append(t.Rows[i], number(cell))
		}
	}
	return t
}

// calibration shows what the statistics were taken from.
func (r *Report) calibration() Section {
	s := Section{ID: "calibration", Title: "Calibration"}
	c := r.Calibration
	switch {
	case c.SHA256 != "":
		s.say("%d windows, %d tokens.", c.Windows, c.Tokens)
	case c.Wanted:
		s.say("The recipe is calibrated; the manifest does not say on how many tokens.")
	default:
		s.say("The recipe reads no calibration text.")
	}
	dead := Table{Caption: "Inputs that were zero for every token; their codes are 0", Columns: columns(text("Linear"), number("Inputs"), number("of"))}
	for _, d := range c.Dead {
		dead.Rows = append(dead.Rows, []Cell{name(d.Linear), integer(d.Columns), integer(d.K)})
	}
	s.table(dead)
	if c.Counted && len(c.Dead) == 0 {
		s.say("Every input of every linear was reached.")
	}
	return s
}

// fallbacks names what is not as the recipe asked.
func (r *Report) fallbacks() Section {
	s := Section{ID: "fallbacks", Title: "Fallbacks and notes"}
	t := Table{ID: "fallback-table", Caption: "Where the result falls short of the recipe", Columns: columns(text("Name"), text("Reason"))}
	for _, f := range r.Fallbacks {
		t.Rows = append(t.Rows, []Cell{name(f.Name), text(f.Reason)})
	}
	if len(t.Rows) == 0 {
		s.say("None: every linear that the recipe names has the scheme that it asks for.")
	}
	s.table(t)
	notes := Table{Caption: "What the run told", Columns: columns(text("Note"))}
	for _, n := range r.Notes {
		notes.Rows = append(notes.Rows, []Cell{text(n)})
	}
	s.table(notes)
	return s
}

// provenance names what went in, by hash.
func (r *Report) provenance() Section {
	s := Section{ID: "provenance", Title: "Provenance", Pre: r.RecipeText}
	t := Table{Caption: "SHA-256 of what the checkpoint was made from and of its files. Tensors: of their sorted names and hashes, which the manifest lists.", Columns: columns(text("What"), text("Value"))}
	for _, f := range r.Provenance {
		t.Rows = append(t.Rows, []Cell{text(f.Name), {Text: f.Value, Hash: true}})
	}
	s.table(t)
	return s
}
