package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
)

// Recipe is one quantization job without its checkpoint. The zero value is
// invalid; start from [Default], [Decode] or [Load].
type Recipe struct {
	Name        string      `yaml:"name" json:"name"`
	Scheme      Scheme      `yaml:"scheme" json:"scheme"`
	Rotation    Rotation    `yaml:"rotation,omitempty" json:"rotation,omitzero"`
	Rope        Rope        `yaml:"rope,omitempty" json:"rope,omitzero"`
	Smoothing   Smoothing   `yaml:"smoothing,omitempty" json:"smoothing,omitzero"`
	Weights     Weights     `yaml:"weights" json:"weights"`
	Calibration Calibration `yaml:"calibration,omitempty" json:"calibration,omitzero"`
	Ignore      []string    `yaml:"ignore" json:"ignore"` // module names, or "re:" and a regular expression
	KV          KV          `yaml:"kv" json:"kv"`
	Attention   Attention   `yaml:"attention,omitempty" json:"attention,omitzero"`
}

// Weights says how the weight of a linear is rounded.
type Weights struct {
	GroupSize  GroupSize  `yaml:"group_size,omitempty" json:"group_size,omitempty"` // INT4 only: weights of a row that share a scale
	Grid       Grid       `yaml:"grid,omitempty" json:"grid,omitempty"`             // W4A8_FP8 only: the products that codes are chosen for
	Rounding   Rounding   `yaml:"rounding" json:"rounding"`
	Search     bool       `yaml:"search" json:"search"`                             // INT4 only: search the scales of a row (methods.md 1.17)
	Importance Importance `yaml:"importance,omitempty" json:"importance,omitempty"` // what the search weighs errors with
	Damp       float64    `yaml:"damp,omitempty" json:"damp,omitempty"`             // gptq: share of the mean diagonal that is added to it
	ActOrder   bool       `yaml:"act_order,omitempty" json:"act_order,omitempty"`   // gptq: columns in the order of their energy
	Target     Target     `yaml:"target,omitempty" json:"target,omitempty"`         // gptq: the output that a layer is fitted to
}

// Calibrated reports whether the recipe needs statistics of activations.
func (r *Recipe) Calibrated() bool {
	return r.Weights.Importance == Activations || r.Weights.Rounding == GPTQ ||
		r.Rotation.Residual.Calibrated() || r.Rotation.Values.Calibrated() ||
		r.Rope.Method != NoRope || r.Rope.TopK > 0 ||
		r.Smoothing.Method == SmoothQuant || r.Smoothing.Method == AWQ || r.Smoothing.Search ||
		r.KV.Format == KVFP8 || r.KV.Smooth || r.Attention.Plan == PlanAuto
}

// Calibration is the text that statistics are taken from. It is read only
// when the recipe is [Recipe.Calibrated]; elsewhere it must be absent.
type Calibration struct {
	Samples int      `yaml:"samples,omitempty" json:"samples,omitempty"` // windows
	Window  int      `yaml:"window,omitempty" json:"window,omitempty"`   // tokens in a window
	Seed    uint64   `yaml:"seed,omitempty" json:"seed,omitempty"`       // chooses the windows
	Files   []string `yaml:"files,omitempty" json:"files,omitempty"`     // text or JSONL; the command line may name others
}

// IsZero reports that nothing is set.
func (c Calibration) IsZero() bool {
	return c.Samples == 0 && c.Window == 0 && c.Seed == 0 && len(c.Files) == 0
}

// Default returns the recipe that a file of this scheme alone means: the values
// under which a decoded file is laid. Its name is empty.
func Default(s Scheme) Recipe {
	r := Recipe{
		Scheme:  s,
		Weights: Weights{Rounding: Nearest},
		Ignore:  []string{"lm_head"},
	}
	switch s {
	case W4A8FP8:
		r.Weights.GroupSize, r.Weights.Grid = GroupAuto, LUT
		r.Weights.Search, r.Weights.Importance = true, Uniform
	case W4A16:
		r.Weights.GroupSize = GroupAuto
		r.Weights.Search, r.Weights.Importance = true, Uniform
	case FP8Dynamic, schemeUnset:
	}
	return r
}

// defaultCalibration applies when the recipe is calibrated and the file says nothing.
var defaultCalibration = Calibration{Samples: 128, Window: 512}

// WithScheme returns the recipe under another scheme: fields that it does not
// read are dropped, those it needs beside get their defaults.
func (r *Recipe) WithScheme(s Scheme) *Recipe {
	out, def := *r, Default(s)
	out.Scheme = s
	if s.Int4() != r.Scheme.Int4() {
		out.Weights = def.Weights
		w := r.Weights
		out.Weights.Rounding, out.Weights.Damp, out.Weights.ActOrder, out.Weights.Target = w.Rounding, w.Damp, w.ActOrder, w.Target
	}
	if !s.Int4() {
		out.Smoothing.Clip = false
	}
	switch {
	case s != W4A8FP8:
		out.Weights.Grid = gridUnset
	case out.Weights.Grid == gridUnset:
		out.Weights.Grid = def.Weights.Grid
	}
	return out.calibrated()
}

// WithKV returns the recipe with another key-value cache.
func (r *Recipe) WithKV(kv KV) *Recipe {
	out := *r
	out.KV = kv
	if kv.Format != KVInt4 {
		out.Rope.TopK, out.Rope.Beta = 0, 0
	}
	return out.calibrated()
}

// calibrated gives a recipe the calibration set that it needs, or takes one that
// nothing reads.
func (r *Recipe) calibrated() *Recipe {
	switch {
	case !r.Calibrated():
		r.Calibration = Calibration{}
	case r.Calibration.IsZero():
		r.Calibration = defaultCalibration
	}
	return r
}

// Ignored reports whether the recipe leaves the module of that name unquantized.
// The recipe must be valid.
func (r *Recipe) Ignored(module string) bool {
	return slices.ContainsFunc(r.Ignore, func(p string) bool { return matches(p, module) })
}

// UnusedIgnores returns the patterns of Ignore that match none of modules,
// in their order. A pattern that matches nothing is a typing error, and the
// layer that it meant would be quantized in silence.
func (r *Recipe) UnusedIgnores(modules []string) []string {
	var unused []string
	for _, p := range r.Ignore {
		if !slices.ContainsFunc(modules, func(m string) bool { return matches(p, m) }) {
			unused = append(unused, p)
		}
	}
	return unused
}

// matches follows compressed-tensors: a plain pattern is the module's whole
// name, "re:" is a regular expression anchored at the start (Python's re.match).
func matches(pattern, module string) bool {
	expr, isRE := strings.CutPrefix(pattern, "re:")
	if !isRE {
		return pattern == module
	}
	return regexp.MustCompile(`^(?:` + expr + `)`).MatchString(module)
}

// Hash is the SHA-256, in hex, of the recipe's canonical YAML ([Recipe.Encode]).
func (r *Recipe) Hash() string {
	sum := sha256.Sum256(r.Encode())
	return hex.EncodeToString(sum[:])
}
