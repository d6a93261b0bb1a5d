package report

import (
	"quantize/eval/report/chart"
	"quantize/packer"
)

// rounding shows what the number formats of run time take from activations, keys and
// values; the manifest has it of calibrated recipes.
func (r *Report) rounding() Section {
	s := Section{ID: "rounding", Title: "Rounding at run time"}
	if r.Rounding == nil {
		return s
	}
	s.say("Measured on %d calibration tokens in the transformed model, before its weights were rounded.", r.Rounding.Tokens)
	snr := chart.Axis{Label: "SNR, dB"}
	if len(r.Rounding.Inputs) > 0 {
		s.figure(blocks("Inputs of linears in FP8", "E4M3 with a scale for each token: 10 log10(Σx² / Σ(x−x′)²).", snr,
			byProjection(r.Rounding.Inputs, func(i packer.InputRounding) (string, int, float64) { return i.Point, i.Layer, known4(i.SNR) })))
	}
	if len(r.Rounding.Cache) == 0 {
		return s
	}
	of := func(name string, f func(packer.CacheRounding) *packer.Fidelity) []chart.Series {
		series := chart.Series{Name: name}
		for _, c := range r.Rounding.Cache {
			if f := f(c); f != nil {
				series.Points = append(series.Points, chart.Point{X: float64(c.Layer), Y: known4(f.SNR)})
			}
		}
		if len(series.Points) == 0 {
			return nil
		}
		return []chart.Series{series}
	}
	lines := of("scores", func(c packer.CacheRounding) *packer.Fidelity { return &c.Scores })
	lines = append(lines, of("scores, keys unscaled", func(c packer.CacheRounding) *packer.Fidelity { return c.UnscaledScores })...)
	lines = append(lines, of("values", func(c packer.CacheRounding) *packer.Fidelity { return &c.Values })...)
	s.figure(blocks("Keys and values in the cache", "Scores are q·k of exact queries with cached keys, less their mean over the keys, which softmax drops; unscaled: the same format without the recipe's scales before and after rotary embedding.", snr, lines))
	return s
}

func (r *Report) roundingNumbers() []Table {
	if r.Rounding == nil {
		return nil
	}
	inputs := Table{ID: "number-inputs", Caption: "Inputs of linears in FP8", Columns: columns(number("block"), text("point"), number("snr_db"), number("cosine"))}
	for _, i := range r.Rounding.Inputs {
		inputs.Rows = append(inputs.Rows, []Cell{integer(i.Layer), text(i.Point), value(known4(i.SNR)), value(known4(i.Cosine))})
	}
	cache := Table{ID: "number-cache", Caption: "Keys and values in the cache", Columns: columns(number("block"),
		number("scores_snr_db"), number("scores_cosine"), number("unscaled_scores_snr_db"), number("unscaled_scores_cosine"), number("values_snr_db"), number("values_cosine"))}
	for _, c := range r.Rounding.Cache {
		plain := packer.Fidelity{}
		if c.UnscaledScores != nil {
			plain = *c.UnscaledScores
		}
		row := []Cell{integer(c.Layer)}
		for _, f := range []packer.Fidelity{c.Scores, plain, c.Values} {
			row = append(row, value(known4(f.SNR)), value(known4(f.Cosine)))
		}
		cache.Rows = append(cache.Rows, row)
	}
	return []Table{inputs, cache}
}
