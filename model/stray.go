package model

import (
	"fmt"
	"strconv"
	"strings"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// Strays finds tensors that the config denies: of decoder layers that it does not
// count, and biases of modules that it says have none. A runtime drops or refuses
// them, so config and weights are of two models. One fault tells all of a kind.
func Strays(c *Config, names []string) []error {
	modules, expected := map[string]Expected{c.Arch.Head: {Kind: KindHead}}, map[string]bool{}
	for _, e := range Tensors(c) {
		expected[e.Name] = true
		if e.Kind != KindBias {
			modules[e.Module] = e
		}
	}
	var later, biases []string
	for _, name := range names {
		module, isBias := strings.CutSuffix(name, ".bias")
		switch _, known := modules[module]; {
		case c.beyond(name):
			later = append(later, name)
		case isBias && known && !expected[name]:
			biases = append(biases, name)
		}
	}
	var faults []error
	if len(later) > 0 {
		faults = append(faults, &fault.Error{
			Err: checkpoint.ErrInvalid, Where: configFile + " num_hidden_layers",
			Found:  fmt.Sprintf("%d beside %s of later layers", c.Layers, someTensors(later)),
			Wanted: fmt.Sprintf("none beyond layer %d", c.Layers-1), Hint: "correct num_hidden_layers in config.json",
		})
	}
	if len(biases) > 0 {
		faults = append(faults, &fault.Error{
			Err: checkpoint.ErrInvalid, Where: biases[0],
			Found: fmt.Sprintf("%s: biases that config.json denies", someTensors(biases)), Wanted: "none",
			Hint: c.biasHint(modules[strings.TrimSuffix(biases[0], ".bias")]),
		})
	}
	return faults
}

func someTensors(names []string) string {
	if len(names) == 1 {
		return "1 tensor (" + names[0] + ")"
	}
	return fmt.Sprintf("%d tensors (%s, ...)", len(names), names[0])
}

// beyond reports a tensor of a block that the config does not count.
func (c *Config) beyond(name string) bool {
	rest, ok := strings.CutPrefix(name, c.Arch.Layers)
	number, _, dot := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	return ok && dot && err == nil && layer >= c.Layers
}

func (c *Config) biasHint(e Expected) string {
	if e.Kind == KindLinear {
		for _, l := range c.Linears(e.Layer) {
			switch {
			case l.Role != e.Role:
			case l.Bias == IfAttentionBias:
				return "with attention_bias: true in config.json the model has it"
			case l.Bias == IfMLPBias:
				return "with mlp_bias: true in config.json the model has it"
			}
		}
	}
	return c.Arch.Name + " has none there"
}
