package report

import (
	"math"
	"slices"

	"quantize/eval/report/chart"
	"quantize/packer"
)

// outputs shows how near the outputs of the linears stayed on the calibration
// text; without the Hessians of a text the manifest has nothing of it.
func (r *Report) outputs() Section {
	s := Section{ID: "outputs", Title: "Outputs"}
	var layers []packer.Layer
	known := slices.Clone(r.Layers)
	known = slices.DeleteFunc(known, func(l Layer) bool { return l.OutputSNR == nil && l.OutputCosine == nil })
	for _, l := range known {
		layers = append(layers, l.Layer)
	}
	if len(known) == 0 {
		return s
	}
	s.say("Of each linear's outputs on the calibration text, on the inputs that the rounded layers before it give, against those of the weight that was rounded. Known of %d of %d linears.", len(known), len(r.Layers))
	s.figure(blocks("Output SNR", "10 log10(tr(W H Wᵀ) / tr((W−W′) H (W−W′)ᵀ)), H = XᵀX over the calibration tokens.", chart.Axis{Label: "SNR, dB"},
		byProjection(known, func(l Layer) (string, int, float64) { return l.Projection, l.Block, known4(l.OutputSNR) })))
	s.figure(blocks("Output cosine", "tr(W H W′ᵀ) / √(tr(W H Wᵀ) tr(W′ H W′ᵀ)).", chart.Axis{Label: "cosine"},
		byProjection(known, func(l Layer) (string, int, float64) { return l.Projection, l.Block, known4(l.OutputCosine) })))
	t := Table{ID: "worst-outputs", Caption: "The lowest output SNR", Columns: columns(text("Linear"), number("SNR, dB"), number("Cosine"))}
	for _, o := range packer.WorstOutputs(layers, 5) {
		t.Rows = append(t.Rows, []Cell{name(o.Name), value(*o.SNR), value(known4(o.Cosine))})
	}
	s.table(t)
	return s
}

// known4 is a figure of the manifest, NaN where it has none.
func known4(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
