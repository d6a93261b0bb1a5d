package packer

import (
	"fmt"
	"slices"

	"quantize/internal/fault"
)

// KVFormat is what a cached key or value becomes.
type KVFormat uint8

const (
	// KVNone keeps what the runtime keeps.
	KVNone KVFormat = iota
	// KVFP8 is E4M3 with one scale a layer for keys and one for values, made
	// from calibration text and stored.
	KVFP8
	// KVInt4 is INT4 in groups of channels of one token and head, with scales
	// made when the token is cached.
	KVInt4
)

var kvFormatNames = []string{"none", "fp8", "int4"}

// String returns the name used in recipes: "none", "fp8" or "int4".
func (f KVFormat) String() string {
	if int(f) >= len(kvFormatNames) {
		return "unknown"
	}
	return kvFormatNames[f]
}

// MarshalText writes the recipe's name.
func (f KVFormat) MarshalText() ([]byte, error) {
	if int(f) >= len(kvFormatNames) {
		return nil, fmt.Errorf("cache format %d has no name", f)
	}
	return []byte(kvFormatNames[f]), nil
}

// UnmarshalText reads "none", "fp8" or "int4".
func (f *KVFormat) UnmarshalText(text []byte) error {
	i := slices.Index(kvFormatNames, string(text))
	if i < 0 {
		return fmt.Errorf("unknown cache format %q (known: none, fp8, int4)", text)
	}
	*f = KVFormat(i)
	return nil
}

// KVScheme says how keys, after rotary embedding, and values are cached. The zero
// value changes nothing.
type KVScheme struct {
	Format KVFormat `json:"format"`
	// GroupSize is how many channels of a head share a scale in INT4: 32, 64, or
	// 0 for all of them.
	GroupSize int `json:"group_size"`
	// Symmetric leaves out the offset of INT4.
	Symmetric bool `json:"symmetric"`
	// FP8Queries rounds queries to E4M3 too, with a scale for each token and head,
	// as a kernel does that multiplies them in FP8.
	FP8Queries bool `json:"fp8_queries"`
}

// Validate reports with [ErrOption] what does not fit together, or not heads of
// headDim channels.
func (s KVScheme) Validate(headDim int) error {
	if err := s.check(); err != nil {
		return err
	}
	if headDim < 1 || headDim%s.Group(headDim) != 0 {
		return &fault.Error{
			Err: ErrOption, Where: "cache group size", Found: fmt.Sprintf("%d for heads of %d channels", s.GroupSize, headDim),
			Wanted: "a divisor", Hint: "0 makes one group of the whole head",
		}
	}
	return nil
}

// check is Validate for heads of any size.
func (s KVScheme) check() error {
	bad := func(where, found, wanted string) error {
		return &fault.Error{Err: ErrOption, Where: where, Found: found, Wanted: wanted}
	}
	switch {
	case s.Format > KVInt4:
		return bad("cache format", fmt.Sprint(uint8(s.Format)), "none, fp8 or int4")
	case s.Format != KVInt4 && (s.GroupSize != 0 || s.Symmetric):
		return bad("cache format", s.String(), "int4 where there are groups or no offsets")
	case s.GroupSize != 0 && s.GroupSize != 32 && s.GroupSize != 64:
		return bad("cache group size", fmt.Sprint(s.GroupSize), "32, 64, or 0 for the whole head")
	case s.Format == KVNone && s.FP8Queries:
		return bad("cache format", "none with FP8 queries", "fp8 or int4")
	}
	return nil
}

// Group returns how many channels of a head of headDim channels share a scale.
func (s KVScheme) Group(headDim int) int {
	if s.GroupSize == 0 {
		return headDim
	}
	return s.GroupSize
}

// String describes the scheme in a report, for example "int4 asymmetric,
// group 64, fp8 queries".
func (s KVScheme) String() string {
	text := s.Format.String()
	if s.Format == KVInt4 {
		if !s.Symmetric {
			text += " a"
		} else {
			text += " "
		}
		text += "symmetric"
	}
	if s.GroupSize != 0 {
		text += fmt.Sprintf(", group %d", s.GroupSize)
	}
	if s.FP8Queries {
		text += ", fp8 queries"
	}
	return text
}

// CacheScheme returns the kv_cache_scheme of a checkpoint's quantization_config
// (docs/formats.md 6.1): that of FP8, nil for the others, since a loader that sees
// one caches in FP8. The scales go into the checkpoint as k_scale and v_scale of
// each attention module.
func (s KVScheme) CacheScheme() *QuantizationArgs {
	if s.Format != KVFP8 {
		return nil
	}
	minmax := "minmax"
	return &QuantizationArgs{
		Dynamic: DynamicNo, NumBits: 8, Type: TypeFloat, Symmetric: true,
		Strategy: StrategyTensor, Observer: &minmax, ObserverKwargs: emptyObject,
	}
}
