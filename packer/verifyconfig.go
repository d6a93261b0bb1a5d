package packer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"quantize/model"
)

// index checks what opening the checkpoint does not: the index is there, its
// total_size is the sum of the tensors, every shard names its framework.
func (v *verifier) index() {
	var bad []string
	var total int64
	for _, name := range v.r.Names() {
		if info, err := v.r.Info(name); err == nil {
			total += info.Bytes()
		}
	}
	const file = "model.safetensors.index.json"
	if data, err := v.read(file); err != nil {
		bad = append(bad, fmt.Sprintf("%s: %v", file, err))
	} else {
		var index struct {
			Metadata struct {
				TotalSize *int64 `json:"total_size"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal(data, &index); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", file, err))
		} else if s := index.Metadata.TotalSize; s == nil || *s != total {
			found := "none"
			if s != nil {
				found = fmt.Sprint(*s)
			}
			bad = append(bad, fmt.Sprintf("%s metadata.total_size: found %s, wanted %d", file, found, total))
		}
	}
	for _, s := range v.r.Shards() {
		if got := s.Metadata["format"]; got != "pt" {
			bad = append(bad, fmt.Sprintf("%s __metadata__.format: found %q, wanted \"pt\" (transformers refuses the file)", s.File, got))
		}
	}
	v.item(ItemIndex, fmt.Sprintf("%d bytes of tensors", total), bad)
}

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
		if _, _, err := q.Identify(s); err != nil {
			bad = append(bad, "config_groups."+name+": "+err.Error())
		}
	}
	if len(q.ConfigGroups) == 0 {
		say("config_groups", "none", "at least one")
	}
	if q.KVCacheScheme != nil {
		say("kv_cache_scheme", "a scheme", "null, since no cache scales are stored (vLLM would use 1.0)")
	}
	for key, raw := range map[string]json.RawMessage{"sparsity_config": q.SparsityConfig, "transform_config": q.TransformConfig} {
		if !isNull(raw) && string(raw) != "{}" {
			say(key, "an object with contents", "{}")
		}
	}
	slices.Sort(bad)
	v.item(ItemConfig, fmt.Sprintf("%s, %v", v.config.ModelType, q.Format), bad)
	v.variant()
	return true
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
