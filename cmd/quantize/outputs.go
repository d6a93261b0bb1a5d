package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"quantize/packer"
)

// writeWorstOutputs names the layers whose outputs suffered most on the
// calibration text; nothing where no recipe was fitted on one.
func writeWorstOutputs(w io.Writer, layers []packer.Layer) {
	worst := packer.WorstOutputs(layers, worstLayers)
	if len(worst) == 0 {
		return
	}
	fmt.Fprintln(w, "outputs on the calibration text, the lowest SNR:")
	for _, o := range worst {
		fmt.Fprintf(w, "  %-48s SNR %.4g dB", o.Name, *o.SNR)
		if o.Cosine != nil {
			fmt.Fprintf(w, ", cosine %.4g", *o.Cosine)
		}
		fmt.Fprintln(w)
	}
}

// writeRounding names the inputs that FP8 suits least and what the cache keeps by layer.
func writeRounding(w io.Writer, r *packer.Rounding) {
	if r == nil {
		return
	}
	worst := slices.DeleteFunc(slices.Clone(r.Inputs), func(i packer.InputRounding) bool { return i.SNR == nil })
	slices.SortStableFunc(worst, func(a, b packer.InputRounding) int { return cmp.Compare(*a.SNR, *b.SNR) })
	if len(worst) > 0 {
		fmt.Fprintf(w, "activations in FP8, %d tokens, the lowest SNR:\n", r.Tokens)
	}
	for _, i := range worst[:min(worstLayers, len(worst))] {
		fmt.Fprintf(w, "  layer %-4d %-10s SNR %s\n", i.Layer, i.Point, i.Fidelity)
	}
	if len(r.Cache) > 0 {
		fmt.Fprintf(w, "keys and values in the cache, %d tokens, SNR of scores (of keys without the recipe's scales) and of values:\n", r.Tokens)
	}
	for _, c := range r.Cache {
		plain := ""
		if c.UnscaledScores != nil {
			plain = fmt.Sprintf(" (%s)", *c.UnscaledScores)
		}
		fmt.Fprintf(w, "  layer %-4d scores %s%s, values %s\n", c.Layer, c.Scores, plain, c.Values)
	}
}
