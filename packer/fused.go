package packer

import (
	"fmt"
	"slices"
	"strings"
)

// fusedLayers are the linears of a module that runtimes merge into one, whose
// shards must agree in scheme and in whether they are ignored (docs/formats.md
// 8): vLLM raises otherwise.
var fusedLayers = []struct {
	name   string
	shards []string
}{
	{"qkv_proj", []string{"q_proj", "k_proj", "v_proj"}},
	{"gate_up_proj", []string{"gate_proj", "up_proj"}},
}

// FusedName returns the layer that runtimes merge a module into, and whether
// there is one: "model.layers.0.mlp.up_proj" becomes
// "model.layers.0.mlp.gate_up_proj", and "model.layers.0.mlp.experts.7.up_proj"
// "model.layers.0.mlp.experts": all experts of a block are one layer with one kernel.
func FusedName(module string) (string, bool) {
	if layer, expert := ExpertOf(module); expert >= 0 {
		return layer, true
	}
	dot := strings.LastIndexByte(module, '.') + 1
	for _, f := range fusedLayers {
		if slices.Contains(f.shards, module[dot:]) {
			return module[:dot] + f.name, true
		}
	}
	return module, false
}

// FusedNames lists the merged layers that have a shard among modules, each once,
// in the order of their first shards.
func FusedNames(modules []string) []string {
	var out []string
	for _, m := range modules {
		if f, ok := FusedName(m); ok && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// FusedFaults reports merged layers whose shards disagree: what is "" for a
// module that is not quantized, and else says how it is. There is no fallback
// that keeps the others quantized: a runtime has one kernel for the layer.
func FusedFaults(modules []string, what func(module string) string) []string {
	first := map[string]string{} // merged layer -> its first shard
	var bad []string
	told := map[string]bool{}
	words := func(module string) string {
		if w := what(module); w != "" {
			return w
		}
		return "not quantized"
	}
	for _, m := range modules {
		layer, ok := FusedName(m)
		if !ok {
			continue
		}
		other, seen := first[layer]
		switch {
		case !seen:
			first[layer] = m
		case what(other) != what(m) && !told[layer]:
			told[layer] = true
			bad = append(bad, fmt.Sprintf("%s: found %s %s and %s %s, wanted them alike, since runtimes merge them into one layer",
				layer, shard(layer, other), words(other), shard(layer, m), words(m)))
		}
	}
	return bad
}

// shard names a part of a merged layer beside it.
func shard(layer, module string) string {
	return strings.TrimPrefix(module, layer[:strings.LastIndexByte(layer, '.')+1])
}

func last(module string) string { return module[strings.LastIndexByte(module, '.')+1:] }
