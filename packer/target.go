package packer

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"quantize/internal/fault"
)

// matcher is a compiled target or ignore list.
type matcher struct {
	names []string
	exprs []*regexp.Regexp
	class bool // the class name of linear layers is among them
}

// compileTargets compiles entries in the three spellings: "re:" and an
// expression anchored at the start of the name only, a class name, or an exact
// name. All modules asked about are linear layers, so of class names only
// "Linear" matters.
func compileTargets(entries []string) (*matcher, error) {
	m := &matcher{}
	for _, e := range entries {
		expr, isExpr := strings.CutPrefix(e, "re:")
		switch {
		case isExpr:
			re, err := regexp.Compile(`\A(?:` + expr + `)`)
			if err != nil {
				return nil, fmt.Errorf("target %q: %w", e, err)
			}
			m.exprs = append(m.exprs, re)
		case e == "Linear":
			m.class = true
		default:
			m.names = append(m.names, e)
		}
	}
	return m, nil
}

func (m *matcher) named(module string) bool {
	return slices.Contains(m.names, module) ||
		slices.ContainsFunc(m.exprs, func(re *regexp.Regexp) bool { return re.MatchString(module) })
}

// Scheme returns the scheme of a linear layer, by its module name without
// ".weight"; nil when the layer is ignored or no group targets it. Exact names
// and expressions come before class names, as in the runtimes; two groups that
// match alike are ErrInvalid, because runtimes disagree about them.
func (q *QuantizationConfig) Scheme(module string) (*QuantizationScheme, error) {
	if q == nil {
		return nil, nil
	}
	ignore, err := compileTargets(q.Ignore)
	if err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: "quantization_config.ignore", Found: err.Error(), Wanted: "regular expressions in RE2's syntax"}
	}
	if ignore.named(module) || ignore.class {
		return nil, nil
	}
	var byName, byClass []*QuantizationScheme
	for _, s := range q.ConfigGroups {
		m, err := compileTargets(s.Targets)
		if err != nil {
			return nil, &fault.Error{Err: ErrInvalid, Where: "quantization_config.targets", Found: err.Error(), Wanted: "regular expressions in RE2's syntax"}
		}
		switch {
		case m.named(module):
			byName = append(byName, s)
		case m.class:
			byClass = append(byClass, s)
		}
	}
	found := byName
	if len(found) == 0 {
		found = byClass
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	default:
		return nil, &fault.Error{
			Err: ErrInvalid, Where: "quantization_config.config_groups",
			Found: fmt.Sprintf("%d groups that target %s", len(found), module), Wanted: "one",
		}
	}
}
