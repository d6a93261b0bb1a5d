package packer

import (
	"fmt"
	"slices"
)

// AttentionMode is what an attention kernel multiplies queries by keys in. In every
// mode but [AttentionBF16] probabilities and values are E4M3.
type AttentionMode uint8

const (
	// AttentionBF16 rounds nothing: operands are multiplied as they are.
	AttentionBF16 AttentionMode = iota
	// AttentionFP8 multiplies E4M3 by E4M3.
	AttentionFP8
	// AttentionInt8 multiplies INT8 by INT8, codes -127..127.
	AttentionInt8
	// AttentionInt4 multiplies INT4 by INT4, codes -7..7.
	AttentionInt4
)

var attentionModeNames = []string{"bf16", "fp8", "int8-qk", "int4-qk"}

// Known reports that m is one of the constants.
func (m AttentionMode) Known() bool { return int(m) < len(attentionModeNames) }

// String returns the name used in attention plans: "bf16", "fp8", "int8-qk" or
// "int4-qk".
func (m AttentionMode) String() string {
	if !m.Known() {
		return "unknown"
	}
	return attentionModeNames[m]
}

// MarshalText writes the plan's name.
func (m AttentionMode) MarshalText() ([]byte, error) {
	if !m.Known() {
		return nil, fmt.Errorf("attention mode %d has no name", m)
	}
	return []byte(attentionModeNames[m]), nil
}

// UnmarshalText reads the plan's name.
func (m *AttentionMode) UnmarshalText(text []byte) error {
	i := slices.Index(attentionModeNames, string(text))
	if i < 0 {
		return fmt.Errorf("unknown attention mode %q (known: %v)", text, attentionModeNames)
	}
	*m = AttentionMode(i)
	return nil
}
