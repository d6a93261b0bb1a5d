package main

import (
	"fmt"
	"io"
	"slices"

	"quantize/calibrate"
	"quantize/model"
	"quantize/packer"
)

// expertTokens counts the tokens that reached the linears of experts, by module,
// and names those that none reached with 0; nil without experts.
func expertTokens(c *model.Config, stats *calibrate.Stats) map[string]int64 {
	var tokens map[string]int64
	for layer := range c.Layers {
		if !c.HasExperts(layer) {
			continue
		}
		if tokens == nil {
			tokens = map[string]int64{}
		}
		for _, l := range c.Linears(layer) {
			if _, expert := l.Input().Expert(); expert < 0 {
				continue
			}
			n := int64(0)
			if site := stats.Site(model.Site{Layer: layer, Point: model.DownIn.Of(l.Expert)}); site != nil {
				n = site.Tokens
			}
			tokens[fmt.Sprintf("%s%d.%s", c.Arch.Layers, layer, l.Name)] = n
		}
	}
	return tokens
}

// writeCoverage prints a line for each block with experts.
func writeCoverage(w io.Writer, table []packer.ExpertCoverage) {
	for _, c := range table {
		fmt.Fprintf(w, "  experts   %s: %d to %d calibration tokens each; %d of %d reached by none, %d by fewer than their input features\n",
			c.Block, slices.Min(c.Tokens), slices.Max(c.Tokens), c.Unreached, len(c.Tokens), c.Starved)
	}
}
