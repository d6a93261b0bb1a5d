package packer

import (
	"fmt"
	"slices"
	"strings"

	"quantize/checkpoint"
	"quantize/model"
)

// ignored finds out which linears the configuration quantizes, and whether the
// tensors agree: a module is quantized exactly when its tensors are.
func (v *verifier) ignored() {
	v.quantity = map[string]linear{}
	var bad []string
	for _, e := range model.Tensors(v.config) {
		if e.Kind == model.KindRouter {
			if s, err := v.quant.Scheme(e.Module); err == nil && s != nil {
				bad = append(bad, fmt.Sprintf("quantization_config.ignore: %s is missing, but a router is not quantized", e.Module))
			}
		}
		if e.Kind != model.KindLinear {
			continue
		}
		s, err := v.quant.Scheme(e.Module)
		if err != nil {
			bad = append(bad, e.Module+": "+err.Error())
			continue
		}
		stored := v.r.Has(e.Module+packedSuffix) || v.r.Has(e.Module+scaleSuffix)
		if s == nil {
			if stored {
				bad = append(bad, e.Module+": found quantized tensors, wanted none, as config.json ignores it")
			}
			continue
		}
		kind, group, err := v.quant.Identify(s)
		if err != nil {
			continue // told by configs
		}
		if !stored && v.r.Has(e.Module+weightSuffix) {
			bad = append(bad, e.Module+": found an unquantized weight, wanted quantized tensors, or the module in ignore")
			continue
		}
		v.quantity[e.Module] = linear{LinearShape{e.Module, e.Shape[0], e.Shape[1]}, kind, group, true}
		v.order = append(v.order, e.Module)
	}
	// Beside tied embeddings a head has no weight of its own, but loaders ask
	// about the module all the same.
	head := v.config.Arch.Head
	if s, err := v.quant.Scheme(head); err == nil && s != nil {
		bad = append(bad, fmt.Sprintf("quantization_config.ignore: %s is missing, but its weight is not quantized", head))
	}
	v.item(ItemIgnore, fmt.Sprintf("%d linears quantized", len(v.order)), bad)
}

// expected lists every tensor the checkpoint must have.
func (v *verifier) expected() []checkpoint.Info {
	var all []checkpoint.Info
	for _, e := range model.Tensors(v.config) {
		if l, ok := v.quantity[e.Module]; ok && e.Kind == model.KindLinear {
			if l.group != 0 && l.K%l.group != 0 {
				l.group = l.K // told by shapes
			}
			all = append(all, l.scheme.layout(l.LinearShape, max(l.group, 1))...)
			continue
		}
		all = append(all, e.Info)
	}
	return all
}

// names demands every expected tensor (vLLM does not notice a missing one), and
// none of those that make a loader fail or two loaders disagree.
func (v *verifier) names() {
	var bad []string
	for _, want := range v.expected() {
		if !v.r.Has(want.Name) {
			bad = append(bad, fmt.Sprintf("%s: found no such tensor, wanted %s", want.Name, describeInfo(want)))
		}
	}
	stray := func(name, why string) {
		if v.r.Has(name) {
			bad = append(bad, name+": found a stray tensor, wanted none "+why)
		}
	}
	for _, module := range v.order {
		if v.quantity[module].scheme != FP8 {
			stray(module+weightSuffix, "beside weight_packed (vLLM fails)")
		} else {
			stray(module+packedSuffix, "beside FP8 codes")
			stray(module+shapeSuffix, "beside FP8 codes")
		}
		stray(module+".weight_zero_point", "of a symmetric scheme (vLLM fails)")
		stray(module+".weight_g_idx", "without reordered groups")
		stray(module+".input_scale", "where activations are scaled per token")
	}
	for _, err := range model.Strays(v.config, v.r.Names()) {
		bad = append(bad, err.Error())
	}
	bad = append(bad, v.unknown(bad)...)
	v.item(ItemNames, fmt.Sprintf("%d expected tensors, all there", len(v.expected())), bad)
}

// unknown lists tensors that nothing explains: neither expected nor, by the
// manifest, copied from the source. vLLM raises on a name it does not know. told
// holds the faults that were found before.
func (v *verifier) unknown(told []string) (bad []string) {
	known := map[string]bool{v.config.Arch.Head + weightSuffix: true} // told by embeddings
	for _, want := range v.expected() {
		known[want.Name] = true
	}
	for _, name := range v.r.Names() {
		if known[name] || v.isCacheScale(name) || slices.ContainsFunc(told, func(b string) bool { return strings.HasPrefix(b, name+":") }) {
			continue
		}
		module, quantized := name, false
		for _, suffix := range []string{packedSuffix, scaleSuffix, shapeSuffix} {
			if m, ok := strings.CutSuffix(name, suffix); ok {
				module, quantized = m, true
			}
		}
		switch _, copied := v.sources()[name]; {
		case copied:
		case quantized:
			bad = append(bad, name+": found a quantized tensor of a module that config.json does not quantize ("+module+"), wanted none")
		case v.manifest != nil:
			bad = append(bad, name+": found a tensor that neither the model nor the source has, wanted none (vLLM fails)")
		}
	}
	return bad
}

// sources are the tensors of the source, none without a manifest.
func (v *verifier) sources() map[string]string {
	if v.manifest == nil {
		return nil
	}
	return v.manifest.Sources
}

// shapes compares dtype and shape of the expected tensors. Tensors that were
// copied may have any float dtype.
func (v *verifier) shapes() {
	var bad []string
	broken := map[string]bool{}
	exact := map[string]string{} // tensor -> module, of quantized ones
	for _, module := range v.order {
		l := v.quantity[module]
		if l.scheme != FP8 && (l.K%l.group != 0 || l.group%8 != 0) {
			bad = append(bad, fmt.Sprintf("%s: found groups of %d, wanted a divisor of the %d input features", module, l.group, l.K))
			broken[module] = true
		}
		for _, want := range l.scheme.layout(l.LinearShape, max(min(l.group, l.K), 1)) {
			exact[want.Name] = module
		}
	}
	for _, want := range v.expected() {
		got, err := v.r.Info(want.Name)
		module, quantized := exact[want.Name]
		switch {
		case err != nil:
			broken[module] = true // told by names
		case broken[module]:
		case quantized && !sameInfo(got, want):
			bad = append(bad, fmt.Sprintf("%s: found %s, wanted %s", want.Name, describeInfo(got), describeInfo(want)))
			broken[module] = true
		case !quantized && (!got.DType.IsFloat() || !slices.Equal(got.Shape, want.Shape)):
			bad = append(bad, fmt.Sprintf("%s: found %s, wanted floats of shape %v", want.Name, describeInfo(got), want.Shape))
		}
	}
	for module := range broken {
		if l, ok := v.quantity[module]; ok {
			l.intact = false
			v.quantity[module] = l
		}
	}
	v.item(ItemShapes, "dtypes and shapes follow from config.json", bad)
}
