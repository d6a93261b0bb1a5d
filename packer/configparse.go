package packer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// largestConfig bounds what is parsed: a config.json has a few kilobytes.
const largestConfig = 16 << 20

// ParseQuantizationConfig returns the quantization_config (or, as vLLM accepts
// it, compression_config) of a config.json, nil when there is none. Unknown keys
// are tolerated at its top level and rejected inside groups and args, as the
// loaders do. Another quant_method, a malformed group or contradictory args are
// ErrInvalid.
func ParseQuantizationConfig(configJSON []byte) (*QuantizationConfig, error) {
	if len(configJSON) > largestConfig {
		return nil, badConfig("config.json", fmt.Sprintf("%d bytes", len(configJSON)), fmt.Sprintf("at most %d", largestConfig))
	}
	if err := uniqueKeys(configJSON); err != nil {
		return nil, err
	}
	var outer struct {
		Quantization json.RawMessage `json:"quantization_config"`
		Compression  json.RawMessage `json:"compression_config"`
	}
	if err := json.Unmarshal(configJSON, &outer); err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: "config.json", Found: err.Error(), Wanted: "a JSON object"}
	}
	raw := outer.Quantization
	if isNull(raw) {
		raw = outer.Compression
	}
	if isNull(raw) {
		return nil, nil
	}
	return parseConfig(raw)
}

// uniqueKeys refuses a config.json in which our edit would be of one member and
// another reader's look at its namesake.
func uniqueKeys(configJSON []byte) error {
	if err := checkpoint.UniqueKeys(configJSON); err != nil {
		return &fault.Error{Err: ErrInvalid, Where: "config.json", Found: err.Error(), Wanted: "each key once", Hint: "remove the one that is not meant"}
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func parseConfig(raw json.RawMessage) (*QuantizationConfig, error) {
	const where = "config.json quantization_config"
	// The top level is lenient; groups and args are decoded strictly below.
	var top struct {
		QuantizationConfig
		ConfigGroups  map[string]json.RawMessage `json:"config_groups"`
		KVCacheScheme json.RawMessage            `json:"kv_cache_scheme"`
	}
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: where, Found: err.Error(), Wanted: "a compressed-tensors configuration"}
	}
	q := &top.QuantizationConfig
	if q.QuantMethod != QuantMethod {
		return nil, &fault.Error{
			Err: ErrInvalid, Where: where + ".quant_method", Found: fmt.Sprintf("%q", q.QuantMethod),
			Wanted: fmt.Sprintf("%q", QuantMethod), Hint: "only checkpoints in the compressed-tensors format are read",
		}
	}
	q.ConfigGroups = make(map[string]*QuantizationScheme, len(top.ConfigGroups))
	for _, name := range slices.Sorted(maps.Keys(top.ConfigGroups)) {
		at := where + ".config_groups." + name
		var s QuantizationScheme
		if err := strict(top.ConfigGroups[name], &s); err != nil {
			return nil, &fault.Error{Err: ErrInvalid, Where: at, Found: err.Error(), Wanted: "targets, weights, input_activations, output_activations, format"}
		}
		if err := s.validate(at); err != nil {
			return nil, err
		}
		q.ConfigGroups[name] = &s
	}
	if !isNull(top.KVCacheScheme) {
		var a QuantizationArgs
		if err := strict(top.KVCacheScheme, &a); err != nil {
			return nil, &fault.Error{Err: ErrInvalid, Where: where + ".kv_cache_scheme", Found: err.Error(), Wanted: "quantization args or null"}
		}
		if err := a.validate(where + ".kv_cache_scheme"); err != nil {
			return nil, err
		}
		q.KVCacheScheme = &a
	}
	return q, nil
}

func strict(raw json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// UnmarshalJSON decodes strictly and fills in the defaults that
// compressed-tensors uses for absent keys.
func (a *QuantizationArgs) UnmarshalJSON(data []byte) error {
	type plain QuantizationArgs // without this method
	p := plain{NumBits: 8, Type: TypeInt, Symmetric: true, Dynamic: DynamicNo}
	if err := strict(data, &p); err != nil {
		return err
	}
	if p.Strategy == "" {
		switch {
		case p.GroupSize == nil:
			p.Strategy = "tensor"
		case *p.GroupSize > 0:
			p.Strategy = StrategyGroup
		default:
			p.Strategy = StrategyChannel
		}
	}
	*a = QuantizationArgs(p)
	return nil
}

func (s *QuantizationScheme) validate(where string) error {
	if len(s.Targets) == 0 {
		return badConfig(where+".targets", "none", "module names, re:expressions or class names")
	}
	if s.Format == FormatMixed {
		return badConfig(where+".format", string(FormatMixed), "the format of this one group")
	}
	if _, err := compileTargets(s.Targets); err != nil {
		return &fault.Error{Err: ErrInvalid, Where: where + ".targets", Found: err.Error(), Wanted: "regular expressions in RE2's syntax"}
	}
	for _, x := range []struct {
		name string
		args *QuantizationArgs
	}{{"weights", s.Weights}, {"input_activations", s.InputActivations}, {"output_activations", s.OutputActivations}} {
		if x.args == nil {
			continue
		}
		if err := x.args.validate(where + "." + x.name); err != nil {
			return err
		}
	}
	return nil
}

func (a *QuantizationArgs) validate(where string) error {
	grouped := a.Strategy == StrategyGroup || a.Strategy == "tensor_group"
	switch {
	case a.NumBits < 1 || a.NumBits > 16:
		return badConfig(where+".num_bits", fmt.Sprint(a.NumBits), "1 to 16")
	case a.Type == TypeFloat && a.NumBits != 8 && a.NumBits != 4:
		return badConfig(where+".num_bits", fmt.Sprint(a.NumBits), "8 or 4 for type float")
	case grouped && (a.GroupSize == nil || *a.GroupSize <= 0):
		return badConfig(where+".group_size", "none", "a positive number for strategy "+string(a.Strategy))
	case !grouped && a.GroupSize != nil && (a.Strategy != StrategyChannel || *a.GroupSize != -1):
		return badConfig(where+".group_size", fmt.Sprint(*a.GroupSize), "null for strategy "+string(a.Strategy))
	case a.Strategy == StrategyToken && a.Dynamic != DynamicYes:
		return badConfig(where+".dynamic", string(a.Dynamic), "true for strategy token")
	case a.Dynamic == DynamicLocal && a.Strategy != "tensor_group":
		return badConfig(where+".dynamic", "local", "strategy tensor_group beside it")
	case (a.Strategy == "block") != !isNull(a.BlockStructure):
		return badConfig(where+".block_structure", "block_structure and strategy "+string(a.Strategy), "block_structure exactly when the strategy is block")
	}
	return nil
}

func badConfig(where, found, wanted string) error {
	return &fault.Error{Err: ErrInvalid, Where: where, Found: found, Wanted: wanted}
}
