package packer

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Scheme is what a checkpoint is quantized to.
type Scheme uint8

const (
	// W4A8 is INT4 weights, group 128, with FP8 activations per token; a second
	// configuration beside it reads the same tensors as W4A16.
	W4A8 Scheme = iota + 1
	// W4A16 is INT4 weights with 16-bit activations.
	W4A16
	// FP8 is E4M3 weights with a scale per output channel and FP8 activations
	// per token: compressed-tensors' FP8_DYNAMIC.
	FP8
)

var schemeNames = []string{W4A8: "w4a8", W4A16: "w4a16", FP8: "fp8"}

// String returns the name used in recipes: "w4a8", "w4a16" or "fp8".
func (s Scheme) String() string {
	if s == 0 || int(s) >= len(schemeNames) {
		return "unset"
	}
	return schemeNames[s]
}

// MarshalText writes the recipe's name.
func (s Scheme) MarshalText() ([]byte, error) {
	if s == 0 || int(s) >= len(schemeNames) {
		return nil, fmt.Errorf("scheme %d has no name", s)
	}
	return []byte(schemeNames[s]), nil
}

// UnmarshalText reads "w4a8", "w4a16" or "fp8".
func (s *Scheme) UnmarshalText(text []byte) error {
	i := slices.Index(schemeNames[1:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown scheme %q (known: w4a8, w4a16, fp8)", text)
	}
	*s = Scheme(i + 1)
	return nil
}

// formatVersion is the compressed-tensors version whose keys the written
// configuration uses; loaders do not act on it.
const formatVersion = "0.14.0"

// Config returns the quantization_config of a checkpoint in which every linear
// layer but those in ignore has scheme s. groupSize is that of the INT4 schemes.
// The values are those of compressed-tensors' presets W4AFP8, W4A16 and
// FP8_DYNAMIC; an unset scheme is a bug of the caller and panics.
func (s Scheme) Config(groupSize int, ignore []string) *QuantizationConfig {
	minmax := "minmax"
	format := FormatPackQuantized
	weights := &QuantizationArgs{
		Dynamic: DynamicNo, NumBits: 4, Type: TypeInt, Symmetric: true,
		Strategy: StrategyGroup, GroupSize: &groupSize, Observer: &minmax, ObserverKwargs: emptyObject,
	}
	perToken := &QuantizationArgs{
		Dynamic: DynamicYes, NumBits: 8, Type: TypeFloat, Symmetric: true,
		Strategy: StrategyToken, ObserverKwargs: emptyObject,
	}
	switch s {
	case W4A8:
	case W4A16:
		perToken = nil
	case FP8:
		format = FormatFloatQuantized
		weights.NumBits, weights.Type, weights.Strategy, weights.GroupSize = 8, TypeFloat, StrategyChannel, nil
	default:
		panic("packer: configuration of an unset scheme")
	}
	return &QuantizationConfig{
		ConfigGroups: map[string]*QuantizationScheme{"group_0": {
			Format: format, InputActivations: perToken, Targets: []string{"Linear"}, Weights: weights,
		}},
		Format:             format,
		Ignore:             append([]string{}, ignore...),
		QuantMethod:        QuantMethod,
		QuantizationStatus: StatusCompressed,
		SparsityConfig:     emptyObject,
		TransformConfig:    emptyObject,
		Version:            formatVersion,
	}
}

var emptyObject = json.RawMessage("{}")
