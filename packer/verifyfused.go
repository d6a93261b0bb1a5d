package packer

import (
	"fmt"
	"slices"

	"quantize/model"
)

// fused demands that the shards of a merged layer agree, and repeats the search of
// a runtime that knows merged layers by one name: the configuration must give
// each linear what its tensors are, under both names.
func (v *verifier) fused() {
	var linears []string
	for _, e := range model.Tensors(v.config) {
		if e.Kind == model.KindLinear {
			linears = append(linears, e.Module)
		}
	}
	what := func(module string) string {
		if l, ok := v.quantity[module]; ok {
			return fmt.Sprintf("%s group %d", l.scheme, l.group)
		}
		return ""
	}
	bad := FusedFaults(linears, what)
	for _, layer := range FusedNames(linears) {
		if slices.ContainsFunc(bad, func(b string) bool { return len(b) > len(layer) && b[:len(layer)] == layer }) {
			continue
		}
		shards := shardsOf(layer, linears)
		found, err := v.quant.fusedScheme(layer, shards)
		if err != nil {
			bad = append(bad, layer+": "+err.Error())
			continue
		}
		got := ""
		if found != nil {
			if kind, group, err := v.quant.Identify(found); err == nil {
				got = fmt.Sprintf("%s group %d", kind, group)
			}
		}
		if want := what(shards[0]); got != want {
			bad = append(bad, fmt.Sprintf("%s: vLLM, which merges %s, finds %q there, wanted %q", layer, shards[0], got, want))
		}
	}
	v.item(ItemFused, "shards of merged layers are alike, under a runtime's names too", bad)
}

func shardsOf(layer string, modules []string) []string {
	var out []string
	for _, m := range modules {
		if f, ok := FusedName(m); ok && f == layer {
			out = append(out, m)
		}
	}
	return out
}

// fusedScheme is the scheme that vLLM finds for a merged layer (docs/formats.md
// 8): ignored when its own name is listed or all shards are; then a name or an
// expression that matches the layer, a class name, or one that matches every
// shard.
func (q *QuantizationConfig) fusedScheme(layer string, shards []string) (*QuantizationScheme, error) {
	ignore, err := compileTargets(q.Ignore)
	if err != nil {
		return nil, err
	}
	if slices.Contains(ignore.names, layer) || ignore.class {
		return nil, nil
	}
	ignored := 0
	for _, s := range shards {
		if ignore.named(s) {
			ignored++
		}
	}
	switch ignored {
	case 0:
	case len(shards):
		return nil, nil
	default:
		return nil, fmt.Errorf("found %d of %d shards ignored, wanted all or none (vLLM raises)", ignored, len(shards))
	}
	var class, each *QuantizationScheme
	for _, name := range groupNames(q) {
		s := q.ConfigGroups[name]
		m, err := compileTargets(s.Targets)
		if err != nil {
			return nil, err
		}
		if m.named(layer) {
			return s, nil
		}
		if m.class && class == nil {
			class = s
		}
		if each == nil && !slices.ContainsFunc(shards, func(shard string) bool { return !m.named(shard) }) {
			each = s
		}
	}
	if class != nil {
		return class, nil
	}
	return each, nil
}
