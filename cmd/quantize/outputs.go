package main

import (
	"fmt"
	"io"

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
