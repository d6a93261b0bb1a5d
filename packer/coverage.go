package packer

import "slices"

// ExpertCoverage says how many calibration tokens reached the experts of a block.
type ExpertCoverage struct {
	Block     string  `json:"block"`     // "model.layers.3.mlp.experts"
	Tokens    []int64 `json:"tokens"`    // by expert
	Unreached int     `json:"unreached"` // by any token
	Starved   int     `json:"starved"`   // reached by fewer tokens than a linear of theirs has input features
}

// Coverage makes the table of the experts from the linears of a manifest, in
// their order; none where no tokens were counted.
func Coverage(layers []Layer) []ExpertCoverage {
	var out []ExpertCoverage
	for i := range layers {
		l := &layers[i]
		block, expert := ExpertOf(l.Name)
		if l.Tokens == nil || expert < 0 {
			continue
		}
		at := slices.IndexFunc(out, func(c ExpertCoverage) bool { return c.Block == block })
		if at < 0 {
			at = len(out)
			out = append(out, ExpertCoverage{Block: block})
		}
		c := &out[at]
		for len(c.Tokens) <= expert {
			c.Tokens = append(c.Tokens, 0)
		}
		c.Tokens[expert] = *l.Tokens
	}
	for i := range out {
		out[i].count(layers)
	}
	return out
}

// count takes an expert as starved when any linear of it is.
func (c *ExpertCoverage) count(layers []Layer) {
	starved := map[int]bool{}
	for i := range layers {
		if block, expert := ExpertOf(layers[i].Name); block == c.Block && layers[i].Starved() {
			starved[expert] = true
		}
	}
	c.Starved = len(starved)
	for _, n := range c.Tokens {
		if n == 0 {
			c.Unreached++
		}
	}
}
