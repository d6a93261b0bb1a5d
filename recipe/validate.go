package recipe

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"quantize/internal/fault"
)

// ErrInvalid marks every recipe that is not accepted (exit code 10).
var ErrInvalid = errors.New("invalid recipe")

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Limits on what a recipe may ask for.
const (
	maxSamples = 1 << 20
	maxWindow  = 1 << 20
)

// Validate reports all faults of the recipe at once, each a [fault.Error] that
// wraps [ErrInvalid] and names the field in Where.
func (r *Recipe) Validate() error {
	var faults []error
	bad := func(field, found, wanted, hint string) {
		faults = append(faults, &fault.Error{Err: ErrInvalid, Where: field, Found: found, Wanted: wanted, Hint: hint})
	}
	missing := func(unset bool, field, wanted string) bool {
		if unset {
			bad(field, "nothing", wanted, "")
		}
		return unset
	}

	if !validName.MatchString(r.Name) {
		bad("name", quoteOrNothing(r.Name), "lower-case letters, digits, '.', '_' and '-', at most 64", "it names the recipe in reports")
	}
	missing(r.Weights.Rounding == roundingUnset, "weights.rounding", roundings.list())
	if missing(r.Scheme == schemeUnset, "scheme", schemes.list()) {
		return errors.Join(faults...)
	}

	w := r.Weights
	if r.Scheme.Int4() {
		missing(w.GroupSize == 0, "weights.group_size", "auto, 128, 64 or 32")
		missing(w.Importance == importanceUnset, "weights.importance", importances.list())
	} else {
		refuse := func(set bool, field, found string) {
			if set {
				bad(field, found, "no such field under scheme "+r.Scheme.String(), "FP8 weights have one scale for each output channel; remove the line")
			}
		}
		refuse(w.GroupSize != 0, "weights.group_size", w.GroupSize.String())
		refuse(w.Search, "weights.search", "true")
		refuse(w.Importance != importanceUnset, "weights.importance", w.Importance.String())
	}
	if r.Scheme == W4A8FP8 {
		missing(w.Grid == gridUnset, "weights.grid", grids.list())
	} else if w.Grid != gridUnset {
		bad("weights.grid", w.Grid.String(), "no such field under scheme "+r.Scheme.String(), "only W4A8_FP8 has two readings of one code; remove the line")
	}
	if w.Importance == Activations && !w.Search {
		bad("weights.importance", "activations with search: false", "search: true", "importance weighs the errors of the scale search")
	}
	w.validateGPTQ(bad)
	r.Rope.validate(r.KV.Format, bad)
	r.Smoothing.validate(w, bad)
	r.KV.validate(bad)
	r.Attention.validate(bad)
	r.Rotation.validate(bad)
	faults = append(faults, r.Calibration.validate(r.Calibrated())...)
	for i, p := range r.Ignore {
		if err := checkPattern(p); err != "" {
			bad(fmt.Sprintf("ignore.%d", i), fmt.Sprintf("%q", p), "a module name, or re: and a regular expression", err)
		}
	}
	return errors.Join(faults...)
}

func (c Calibration) validate(read bool) []error {
	var faults []error
	bad := func(field, found, wanted, hint string) {
		faults = append(faults, &fault.Error{Err: ErrInvalid, Where: field, Found: found, Wanted: wanted, Hint: hint})
	}
	if !read {
		if !c.IsZero() {
			bad("calibration", "a calibration set", "none", "no step of this recipe reads activations")
		}
		return faults
	}
	if c.Samples < 1 || c.Samples > maxSamples {
		bad("calibration.samples", fmt.Sprint(c.Samples), fmt.Sprintf("1 to %d windows", maxSamples), "")
	}
	if c.Window < 2 || c.Window > maxWindow {
		bad("calibration.window", fmt.Sprint(c.Window), fmt.Sprintf("2 to %d tokens", maxWindow), "")
	}
	for i, f := range c.Files {
		if strings.TrimSpace(f) == "" {
			bad(fmt.Sprintf("calibration.files.%d", i), fmt.Sprintf("%q", f), "the path of a text or JSONL file", "")
		}
	}
	return faults
}

// checkPattern returns the reason why an ignore pattern is not usable, or "".
func checkPattern(p string) string {
	expr, isRE := strings.CutPrefix(p, "re:")
	switch {
	case p == "" || isRE && expr == "":
		return "it is empty"
	case !isRE && strings.ContainsAny(p, "*? "):
		return "wildcards are written as a regular expression, for example re:.*down_proj"
	case isRE:
		if _, err := regexp.Compile(`^(?:` + expr + `)`); err != nil {
			return err.Error()
		}
	}
	return ""
}

func quoteOrNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return fmt.Sprintf("%q", s)
}
