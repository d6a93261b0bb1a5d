package recipe

import (
	"fmt"
	"slices"
)

// Attention says what the attention of our own kernels multiplies (methods.md 2). Keys and
// values go through the cache (KV) first. Other runtimes do not read the plan. The zero
// value rounds nothing.
type Attention struct {
	Plan Plan `yaml:"plan,omitempty" json:"plan,omitempty"` // one mode for all layers, or auto: chosen by layer
	// Candidates are what auto chooses from: the cheapest (int4-qk, then int8-qk and fp8)
	// within the budget, of two that cost the same the better; bf16 is what is left.
	Candidates []AttentionMode `yaml:"candidates,omitempty" json:"candidates,omitempty"`
	MinCosine  float64         `yaml:"min_cosine,omitempty" json:"min_cosine,omitempty"` // auto: to exact attention, of a layer's worst head
	Fraction   float64         `yaml:"fraction,omitempty" json:"fraction,omitempty"`     // auto: the largest share of layers that is quantized, the best by cosine*(1 - relative L1)
	Windows    int             `yaml:"windows,omitempty" json:"windows,omitempty"`       // auto: how many of the calibration windows are measured
}

// IsZero reports that nothing is planned.
func (a Attention) IsZero() bool {
	return a.Plan == PlanOff && len(a.Candidates) == 0 && a.MinCosine == 0 && a.Fraction == 0 && a.Windows == 0
}

// defaultAttention lies under plan: auto. The budget is SageAttention's
// (methods.md 2.3); int4-qk is not among the candidates, because on Hopper it costs what
// int8-qk does.
func defaultAttention() Attention {
	return Attention{Plan: PlanAuto, Candidates: []AttentionMode{Int8QK, FP8QK}, MinCosine: 0.998, Fraction: 1, Windows: 4}
}

// Plan says how the attention of a layer gets its mode.
type Plan uint8

// The plans. The zero value is off.
const (
	PlanOff  Plan = iota // no plan
	PlanAuto             // by layer, on the calibration text
	PlanBF16             // the others: one mode for all layers
	PlanFP8
	PlanInt8QK
	PlanInt4QK
)

var plans = options[Plan]{"off", "auto", "bf16", "fp8", "int8-qk", "int4-qk"}

func (p Plan) String() string { return plans.of(p) }

// MarshalText gives the name in recipes and reports.
func (p Plan) MarshalText() ([]byte, error) { return []byte(plans.of(p)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (p *Plan) UnmarshalText(b []byte) error { return plans.parse(p, "attention.plan", b) }

// Uniform returns the mode of a plan that has one for all layers.
func (p Plan) Uniform() (m AttentionMode, ok bool) {
	switch p {
	case PlanBF16:
		return BF16QK, true
	case PlanFP8:
		return FP8QK, true
	case PlanInt8QK:
		return Int8QK, true
	case PlanInt4QK:
		return Int4QK, true
	default:
		return BF16QK, false
	}
}

// AttentionMode is what queries and keys are multiplied in; below bf16, probabilities and
// values are E4M3.
type AttentionMode uint8

// The modes.
const (
	BF16QK AttentionMode = iota // nothing is rounded
	FP8QK                       // E4M3
	Int8QK
	Int4QK
)

var attentionModes = options[AttentionMode]{"bf16", "fp8", "int8-qk", "int4-qk"}

func (m AttentionMode) String() string { return attentionModes.of(m) }

// MarshalText gives the name in recipes and reports.
func (m AttentionMode) MarshalText() ([]byte, error) { return []byte(attentionModes.of(m)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (m *AttentionMode) UnmarshalText(b []byte) error {
	return attentionModes.parse(m, "attention.candidates", b)
}

// maxPlanWindows bounds what is measured for a plan.
const maxPlanWindows = 1 << 12

func (a Attention) validate(bad report) {
	if a.Plan != PlanAuto {
		rest := a
		rest.Plan = PlanOff
		if !rest.IsZero() {
			bad("attention", "candidates, a budget, a fraction or windows", "plan: auto", "nothing else reads them; remove the lines")
		}
		return
	}
	if len(a.Candidates) == 0 {
		bad("attention.candidates", "none", "at least one of fp8, int8-qk and int4-qk", "plan: off measures nothing")
	}
	for i, m := range a.Candidates {
		field := fmt.Sprintf("attention.candidates.%d", i)
		switch {
		case m == BF16QK:
			bad(field, m.String(), "fp8, int8-qk or int4-qk", "bf16 is what is left for a layer where none keeps the budget; remove it")
		case slices.Contains(a.Candidates[:i], m):
			bad(field, m.String()+" twice", "each mode once", "")
		}
	}
	if !(a.MinCosine > 0 && a.MinCosine <= 1) {
		bad("attention.min_cosine", fmt.Sprint(a.MinCosine), "more than 0, at most 1", "0.998 is usual")
	}
	if !(a.Fraction > 0 && a.Fraction <= 1) {
		bad("attention.fraction", fmt.Sprint(a.Fraction), "more than 0, at most 1", "1 for all layers within the budget")
	}
	if a.Windows < 1 || a.Windows > maxPlanWindows {
		bad("attention.windows", fmt.Sprint(a.Windows), fmt.Sprintf("1 to %d", maxPlanWindows), "")
	}
}
