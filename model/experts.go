package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ExpertRule is the part of a table that says where experts are. Each is an MLP
// of its own, one 2-D tensor a linear as in the checkpoints that are published;
// the router chooses some for each token.
type ExpertRule struct {
	Router  string       // relative to the block
	Prefix  string       // of an expert, relative to the block: followed by its index and a dot
	Linears []LinearRule // of one expert, relative to it, in order of computation

	Count   []string // fields of config.json with their number; the first is the family's own
	Default int      // number where no field says it
	Chosen  int      // default of num_experts_per_tok
	Width   string   // field with the intermediate size of one; required
	Norm    string   // field that says whether the shares are made to sum to 1, false if absent; "": always
	Layers  bool     // decoder_sparse_step and mlp_only_layers say which layers have experts; false: all
}

// HasExperts reports whether a layer has experts in the place of its MLP.
func (c *Config) HasExperts(layer int) bool { return c.Sparse != nil && c.Sparse[layer] }

// Linears lists the linears of a layer in the order of computation.
func (c *Config) Linears(layer int) []LinearRule {
	if !c.HasExperts(layer) {
		return c.Arch.Linears
	}
	rule := c.Arch.Experts
	all := slices.DeleteFunc(slices.Clone(c.Arch.Linears), func(l LinearRule) bool { return l.Role >= RoleGate })
	for e := range c.Experts {
		for _, l := range rule.Linears {
			l.Name, l.Expert = fmt.Sprintf("%s%d.%s", rule.Prefix, e, l.Name), e
			all = append(all, l)
		}
	}
	return all
}

// Feeds lists the smoothing pairs of a layer. The norm before experts feeds all
// of them and the router; each expert's up feeds its own down.
func (c *Config) Feeds(layer int) []Feed {
	if !c.HasExperts(layer) {
		return c.Arch.Feeds
	}
	all := slices.DeleteFunc(slices.Clone(c.Arch.Feeds), func(f Feed) bool { return f.Site == MLPIn || f.Site == DownIn })
	norm := Feed{Site: MLPIn, From: c.Arch.MLPNorm, To: []string{c.Arch.Experts.Router}}
	var downs []Feed
	up := ""
	for _, l := range c.Linears(layer) {
		switch l.Role {
		case RoleExpertUp:
			up = l.Name
			norm.To = append(norm.To, l.Name)
		case RoleExpertGate:
			norm.To = append(norm.To, l.Name)
		case RoleExpertDown:
			downs = append(downs, Feed{Site: DownIn.Of(l.Expert), From: up, To: []string{l.Name}})
		default:
		}
	}
	return append(append(all, norm), downs...)
}

// DownWidths lists the different widths of the inputs of down, in all layers.
func (c *Config) DownWidths() []int {
	var widths []int
	for layer := range c.Layers {
		w := c.Intermediate
		if c.HasExperts(layer) {
			w = c.ExpertWidth
		}
		if !slices.Contains(widths, w) {
			widths = append(widths, w)
		}
	}
	return widths
}

// Of is the point of one expert: "down_in.3".
func (p Point) Of(expert int) Point { return p + Point("."+strconv.Itoa(expert)) }

// Expert takes the number of the expert off a point; -1 where there is none.
func (p Point) Expert() (base Point, expert int) {
	name, number, ok := strings.Cut(string(p), ".")
	e, err := strconv.Atoi(number)
	if !ok || err != nil || e < 0 || strconv.Itoa(e) != number {
		return p, -1
	}
	return Point(name), e
}

// Base is the point without the number of an expert.
func (p Point) Base() Point {
	base, _ := p.Expert()
	return base
}

// experts reads the fields that the table names.
func (c *Config) experts(f *fields) {
	rule := c.Arch.Experts
	if rule == nil {
		return
	}
	c.Experts = rule.Default
	for i, name := range slices.Backward(rule.Count) { // the family's own spelling last: it decides
		n := f.count(name, c.Experts, MaxExperts)
		if i == 0 && len(rule.Count) > 1 && f.has(rule.Count[1]) && f.has(name) && n != c.Experts {
			f.fail(name, fmt.Sprint(n), fmt.Sprintf("%s = %d", rule.Count[1], c.Experts), "two spellings of one number")
		}
		c.Experts = n
	}
	c.ExpertsPerToken = f.count("num_experts_per_tok", rule.Chosen, maxChosen)
	c.ExpertWidth = f.count(rule.Width, 0, maxWidth)
	c.NormTopK = rule.Norm == "" || f.flag(rule.Norm, false)
	step, dense := 1, []int(nil)
	if rule.Layers {
		step = f.count("decoder_sparse_step", 1, maxLayers)
		f.decode("mlp_only_layers", "a list of layers", &dense)
	}
	if len(f.faults) > 0 {
		return
	}
	switch {
	case c.ExpertsPerToken > c.Experts:
		f.fail("num_experts_per_tok", fmt.Sprint(c.ExpertsPerToken), fmt.Sprintf("at most the %d experts", c.Experts), "")
	case c.Experts*c.Layers > MaxExperts:
		f.fail(rule.Count[0], fmt.Sprintf("%d in %d layers", c.Experts, c.Layers), fmt.Sprintf("at most %d experts in all", MaxExperts), "")
	}
	c.Sparse = make([]bool, c.Layers)
	for i := range c.Sparse {
		c.Sparse[i] = (i+1)%step == 0 && !slices.Contains(dense, i)
	}
}
