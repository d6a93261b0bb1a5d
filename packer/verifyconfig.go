package packer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"quantize/model"
)

// configs checks both configuration files. Without a model and a quantization
// config nothing else can be checked: it then returns false.
func (v *verifier) configs() bool {
	var bad []string
	var err error
	if v.config, err = model.ParseConfig(v.r.ConfigJSON()); err != nil {
		bad = append(bad, faults(err)...)
	}
	if v.quant, err = ParseQuantizationConfig(v.r.ConfigJSON()); err != nil {
		bad = append(bad, faults(err)...)
	} else if v.quant == nil {
		bad = append(bad, "config.json: no quantization_config: this checkpoint is not quantized")
	}
	if len(bad) > 0 {
		v.item(ItemConfig, "", bad)
		return false
	}
	q := v.quant
	for _, name := range groupNames(q) {
		if _, _, err := q.Identify(q.ConfigGroups[name]); err != nil {
			bad = append(bad, "config_groups."+name+": "+err.Error())
		}
	}
	bad = append(bad, q.Faults()...)
	slices.Sort(bad)
	v.item(ItemConfig, fmt.Sprintf("%s, %v", v.config.ModelType, q.Format), bad)
	v.variant()
	return true
}

// Faults tells, in order of their texts, what a quantization_config of any scheme may not
// say, or leave out: where loaders then guess, start from random weights or compute
// otherwise (docs/formats.md 16).
func (q *QuantizationConfig) Faults() (bad []string) {
	say := func(key string, found any, wanted string) {
		bad = append(bad, fmt.Sprintf("config.json quantization_config.%s: found %v, wanted %s", key, found, wanted))
	}
	if q.QuantizationStatus != StatusCompressed {
		say("quantization_status", fmt.Sprintf("%q", q.QuantizationStatus), `"compressed" (else transformers starts from random weights)`)
	}
	if q.Format == "" {
		say("format", "none", "a format at both levels")
	}
	for _, name := range groupNames(q) {
		s := q.ConfigGroups[name]
		if s.Format == "" || q.Format != FormatMixed && s.Format != q.Format {
			say("config_groups."+name+".format", fmt.Sprintf("%q", s.Format), fmt.Sprintf("%q, as at the top (else transformers guesses)", q.Format))
		}
		for key, a := range map[string]*QuantizationArgs{"weights": s.Weights, "input_activations": s.InputActivations} {
			if a != nil && a.Dynamic == DynamicYes && a.Observer != nil {
				say("config_groups."+name+"."+key+".observer", *a.Observer, "null, since nothing is observed for a dynamic scale")
			}
		}
	}
	if len(q.ConfigGroups) == 0 {
		say("config_groups", "none", "at least one")
	}
	for key, raw := range map[string]json.RawMessage{"sparsity_config": q.SparsityConfig, "transform_config": q.TransformConfig} {
		if !isNull(raw) && string(raw) != "{}" {
			say(key, "an object with contents", "{}")
		}
	}
	slices.Sort(bad)
	return bad
}

func groupNames(q *QuantizationConfig) []string {
	var names []string
	for name := range q.ConfigGroups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// variant checks the weight-only configuration: demanded beside W4A8, equal to
// config.json but for the activations.
func (v *verifier) variant() {
	w4a8 := false
	for _, s := range v.quant.ConfigGroups {
		kind, _, err := v.quant.Identify(s)
		w4a8 = w4a8 || err == nil && kind == W4A8
	}
	data, err := v.read(weightOnlyPath)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !w4a8:
		v.item(ItemVariant, "none, and none is needed", nil)
	case err != nil:
		v.item(ItemVariant, "", []string{fmt.Sprintf("%s: %v", weightOnlyPath, err)})
	default:
		var bad []string
		if at := sameButActivations(v.r.ConfigJSON(), data); at != "" {
			bad = append(bad, fmt.Sprintf("%s: differs from config.json at %q, wanted a difference in input_activations only", weightOnlyPath, at))
		}
		if q, err := ParseQuantizationConfig(data); err != nil || q == nil {
			bad = append(bad, fmt.Sprintf("%s: no usable quantization_config: %v", weightOnlyPath, err))
		} else {
			for _, name := range groupNames(q) {
				if q.ConfigGroups[name].InputActivations != nil {
					bad = append(bad, fmt.Sprintf("%s config_groups.%s.input_activations: found args, wanted null", weightOnlyPath, name))
				}
			}
		}
		v.item(ItemVariant, weightOnlyPath+" differs in input_activations only", bad)
	}
}
