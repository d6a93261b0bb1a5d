package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// Scheme is what a linear's weight and input become.
type Scheme uint8

// The schemes. The zero value is unset and invalid.
const (
	schemeUnset Scheme = iota
	W4A8FP8            // INT4 group weights, E4M3 activations per token
	W4A16              // INT4 group weights, activations as they are
	FP8Dynamic         // E4M3 weights per output channel, E4M3 activations per token
)

var schemes = names[Scheme]{"scheme", []string{"", "W4A8_FP8", "W4A16", "FP8_DYNAMIC"}}

func (s Scheme) String() string { return schemes.of(s) }

// MarshalText gives the name in recipes and reports.
func (s Scheme) MarshalText() ([]byte, error) { return []byte(schemes.of(s)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (s *Scheme) UnmarshalText(b []byte) error { return schemes.parse(s, b) }

// Int4 reports whether weights become INT4 groups.
func (s Scheme) Int4() bool { return s == W4A8FP8 || s == W4A16 }

// Grid names the products that INT4 codes are chosen for (architecture.md, decision 4).
type Grid uint8

// The grids. The zero value is unset: schemes other than W4A8_FP8 have none.
const (
	gridUnset Grid = iota
	LUT            // e4m3(q*s8/8)*8*chan, codes -8..7: what vLLM multiplies
	Exact          // q*s8*chan, codes -7..7
)

var grids = names[Grid]{"weights.grid", []string{"", "lut", "exact"}}

func (g Grid) String() string { return grids.of(g) }

// MarshalText gives the name in recipes and reports.
func (g Grid) MarshalText() ([]byte, error) { return []byte(grids.of(g)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (g *Grid) UnmarshalText(b []byte) error { return grids.parse(g, b) }

// Rounding is the algorithm that chooses codes.
type Rounding uint8

// The algorithms. The zero value is unset and invalid.
const (
	roundingUnset Rounding = iota
	Nearest                // round to nearest, each weight alone
	GPTQ                   // compensate each error in the weights to come (arXiv 2210.17323)
)

var roundings = names[Rounding]{"weights.rounding", []string{"", "rtn", "gptq"}}

func (r Rounding) String() string { return roundings.of(r) }

// MarshalText gives the name in recipes and reports.
func (r Rounding) MarshalText() ([]byte, error) { return []byte(roundings.of(r)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (r *Rounding) UnmarshalText(b []byte) error { return roundings.parse(r, b) }

// Target is the output that GPTQ fits a rounded layer to, on its rounded inputs.
type Target uint8

// The targets. The zero value is [OwnOutput].
const (
	OwnOutput     Target = iota // "own": of the unrounded weight on the same inputs (GPTQ as published)
	FullPrecision               // of the unrounded model: also what earlier layers lost is made good
)

var targets = options[Target]{"own", "full-precision"}

func (t Target) String() string { return targets.of(t) }

// MarshalText gives the name in recipes and reports.
func (t Target) MarshalText() ([]byte, error) { return []byte(targets.of(t)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (t *Target) UnmarshalText(b []byte) error { return targets.parse(t, "weights.target", b) }

// Importance is the weight of an input channel in the error that the scale
// search minimises.
type Importance uint8

// The weightings. The zero value is unset: FP8_DYNAMIC has no search.
const (
	importanceUnset Importance = iota
	Uniform                    // "none": every channel counts the same
	Activations                // a channel counts by its mean squared activation
)

var importances = names[Importance]{"weights.importance", []string{"", "none", "activations"}}

func (i Importance) String() string { return importances.of(i) }

// MarshalText gives the name in recipes and reports.
func (i Importance) MarshalText() ([]byte, error) { return []byte(importances.of(i)), nil }

// UnmarshalText accepts exactly the names of the constants.
func (i *Importance) UnmarshalText(b []byte) error { return importances.parse(i, b) }

// GroupSize is the number of weights of a row that share a scale; the zero
// value is unset.
type GroupSize int

// GroupAuto takes the largest of [GroupSizes] that divides K of every quantized linear.
const GroupAuto GroupSize = -1

// GroupSizes lists the sizes that runtimes take, preferred first.
var GroupSizes = []int{128, 64, 32}

func (g GroupSize) String() string {
	switch g {
	case 0:
		return ""
	case GroupAuto:
		return "auto"
	default:
		return strconv.Itoa(int(g))
	}
}

// MarshalText gives "auto" or the number.
func (g GroupSize) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText accepts "auto" and the members of [GroupSizes].
func (g *GroupSize) UnmarshalText(b []byte) error {
	for _, v := range append([]int{int(GroupAuto)}, GroupSizes...) {
		if GroupSize(v).String() == string(b) {
			*g = GroupSize(v)
			return nil
		}
	}
	return &badValue{field: "weights.group_size", found: string(b), wanted: "auto, 128, 64 or 32"}
}

// names is the text of an enum whose value 0 is unset.
type names[E ~uint8] struct {
	field string
	text  []string
}

func (n names[E]) of(e E) string {
	if int(e) < len(n.text) {
		return n.text[e]
	}
	return fmt.Sprintf("%s(%d)", n.field, e)
}

func (n names[E]) parse(dst *E, b []byte) error {
	for i, s := range n.text[1:] {
		if s == string(b) {
			*dst = E(i + 1)
			return nil
		}
	}
	return &badValue{field: n.field, found: string(b), wanted: n.list()}
}

func (n names[E]) list() string {
	t := n.text[1:]
	if len(t) == 1 {
		return t[0]
	}
	return strings.Join(t[:len(t)-1], ", ") + " or " + t[len(t)-1]
}

// badValue travels from UnmarshalText through the YAML decoder, which adds the line.
type badValue struct{ field, found, wanted string }

func (e *badValue) Error() string {
	return fmt.Sprintf("%s: found %q, wanted %s", e.field, e.found, e.wanted)
}
