package packer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// QuantizationConfig is compressed-tensors' object of that name: what stands
// under "quantization_config" in config.json. Field by field it has the names
// and the order (keys sorted) that llm-compressor writes.
type QuantizationConfig struct {
	ConfigGroups           map[string]*QuantizationScheme `json:"config_groups"`
	Format                 Format                         `json:"format"`
	GlobalCompressionRatio *float64                       `json:"global_compression_ratio"`
	Ignore                 []string                       `json:"ignore"`
	KVCacheScheme          *QuantizationArgs              `json:"kv_cache_scheme"`
	QuantMethod            string                         `json:"quant_method"`
	QuantizationStatus     string                         `json:"quantization_status"`
	SparsityConfig         json.RawMessage                `json:"sparsity_config"`
	TransformConfig        json.RawMessage                `json:"transform_config"`
	Version                string                         `json:"version"`
}

// QuantizationScheme says how the modules that Targets name are quantized.
// A target is an exact module name, "re:" and a regular expression matched from
// the start of the name, or a class name ("Linear").
type QuantizationScheme struct {
	Format            Format            `json:"format"`
	InputActivations  *QuantizationArgs `json:"input_activations"`
	OutputActivations *QuantizationArgs `json:"output_activations"`
	Targets           []string          `json:"targets"`
	Weights           *QuantizationArgs `json:"weights"`
}

// QuantizationArgs describes one quantized tensor. Loaders reject keys that are
// not among these; scale_dtype and zp_dtype are unknown to compressed-tensors
// before 0.13 and are left out when null.
type QuantizationArgs struct {
	ActOrder       *string         `json:"actorder"`
	BlockStructure json.RawMessage `json:"block_structure"` // [rows, columns], an old "128x128", or null
	Dynamic        Dynamic         `json:"dynamic"`
	GroupSize      *int            `json:"group_size"`
	NumBits        int             `json:"num_bits"`
	Observer       *string         `json:"observer"`
	// Private is no key of compressed-tensors: there, and in what parses with it
	// (transformers, vLLM, SGLang), it is an error that quotes key and value. It is
	// written where another runtime would compute something else, and says why.
	Private        string          `json:"only_for_quantize_runtime,omitempty"`
	ObserverKwargs json.RawMessage `json:"observer_kwargs"`
	ScaleDType     *string         `json:"scale_dtype,omitempty"`
	Strategy       Strategy        `json:"strategy"`
	Symmetric      bool            `json:"symmetric"`
	Type           NumberType      `json:"type"`
	ZPDType        *string         `json:"zp_dtype,omitempty"`
}

// QuantMethod and StatusCompressed are the values every loader dispatches on.
const (
	QuantMethod      = "compressed-tensors"
	StatusCompressed = "compressed"
)

// Format names a storage layout. It is written at both levels: without the
// group's, current compressed-tensors infers another layout for INT4 weights
// with FP8 activations and initialises the weights at random.
type Format string

// The formats written here; all that compressed-tensors knows are accepted.
const (
	FormatPackQuantized  Format = "pack-quantized"
	FormatFloatQuantized Format = "float-quantized"
	FormatMixed          Format = "mixed-precision"
)

var formats = []string{
	"", "dense", "int-quantized", "float-quantized", "naive-quantized", "pack-quantized",
	"nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized", "mixed-precision",
	"sparse-bitmask", "sparse-24-bitmask", "marlin-24",
}

// UnmarshalText accepts the names of compressed-tensors.
func (f *Format) UnmarshalText(text []byte) error { return oneOf(f, "format", text, formats) }

// Strategy says which elements share a scale.
type Strategy string

// The strategies used here.
const (
	StrategyTensor  Strategy = "tensor"
	StrategyChannel Strategy = "channel"
	StrategyGroup   Strategy = "group"
	StrategyToken   Strategy = "token"
)

var strategies = []string{"tensor", "channel", "group", "block", "token", "tensor_group", "attn_head"}

// UnmarshalText accepts the names of compressed-tensors.
func (s *Strategy) UnmarshalText(text []byte) error { return oneOf(s, "strategy", text, strategies) }

// NumberType is the kind of the codes.
type NumberType string

// The two kinds.
const (
	TypeInt   NumberType = "int"
	TypeFloat NumberType = "float"
)

// UnmarshalText accepts "int" and "float".
func (t *NumberType) UnmarshalText(text []byte) error {
	return oneOf(t, "type", text, []string{string(TypeInt), string(TypeFloat)})
}

func oneOf[T ~string](dst *T, what string, text []byte, known []string) error {
	if !slices.Contains(known, string(text)) {
		return fmt.Errorf("unknown %s %q (known: %v)", what, text, known)
	}
	*dst = T(text)
	return nil
}

// Dynamic says when scales are derived: stored (false), at run time (true), or
// at run time within a stored global scale ("local").
type Dynamic string

// The three values, in JSON false, true and "local".
const (
	DynamicNo    Dynamic = "false"
	DynamicYes   Dynamic = "true"
	DynamicLocal Dynamic = "local"
)

// MarshalJSON writes false, true or "local".
func (d Dynamic) MarshalJSON() ([]byte, error) {
	switch d {
	case DynamicNo, DynamicYes:
		return []byte(d), nil
	case DynamicLocal:
		return []byte(`"local"`), nil
	default:
		return nil, fmt.Errorf("dynamic is unset")
	}
}

// UnmarshalJSON reads false, true or "local".
func (d *Dynamic) UnmarshalJSON(data []byte) error {
	switch s := string(bytes.Trim(data, `"`)); s {
	case "false", "true", "local":
		*d = Dynamic(s)
		return nil
	default:
		return fmt.Errorf("dynamic: found %s, wanted true, false or \"local\"", data)
	}
}
