package packer

import (
	"cmp"
	"slices"
)

// LayerOutput is how near the outputs of a linear came on the calibration tokens.
type LayerOutput struct {
	Name   string   `json:"name"`
	SNR    *float64 `json:"output_snr_db,omitempty"`
	Cosine *float64 `json:"output_cosine,omitempty"`
}

// Outputs lists the layers whose outputs are known, in their order.
func Outputs(layers []Layer) []LayerOutput {
	var known []LayerOutput
	for _, l := range layers {
		if l.OutputSNR != nil || l.OutputCosine != nil {
			known = append(known, LayerOutput{l.Name, l.OutputSNR, l.OutputCosine})
		}
	}
	return known
}

// WorstOutputs lists the n of lowest SNR, lowest first; exact ones have none.
func WorstOutputs(layers []Layer, n int) []LayerOutput {
	worst := slices.DeleteFunc(Outputs(layers), func(o LayerOutput) bool { return o.SNR == nil })
	slices.SortStableFunc(worst, func(a, b LayerOutput) int { return cmp.Compare(*a.SNR, *b.SNR) })
	return worst[:min(n, len(worst))]
}
