package recipe

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"quantize/internal/fault"
)

// maxBytes bounds a recipe file before it is parsed.
const maxBytes = 1 << 20

// source is a YAML file as its errors tell of it.
type source struct {
	where    string
	sentinel error
	hint     string // after a fault that the decoder found
}

// Decode reads one YAML document: strictly (an unknown or repeated field is an
// error), over the defaults of its scheme, then validated. where names the
// source in errors; each is a [fault.Error] that wraps [ErrInvalid] and has
// "where:line" of the fault.
func Decode(where string, data []byte) (*Recipe, error) {
	src := source{where, ErrInvalid, "`quantize recipe show rtn` prints every field"}
	node, err := src.parse(data)
	if err != nil {
		return nil, err
	}
	// A first, lenient pass tells which defaults lie under the file; its faults
	// are found again, with all others, by the strict one.
	var head Recipe
	_ = yaml.Load(data, &head)

	r := Default(head.Scheme)
	if head.Calibrated() {
		r.Calibration = defaultCalibration
	}
	if head.Weights.Rounding == GPTQ {
		r.Weights.Damp = defaultDamp
	}
	if head.Attention.Plan == PlanAuto {
		r.Attention = defaultAttention()
	}
	if err := src.strict(data, &r); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, addLines(where, node, err)
	}
	return &r, nil
}

// parse gives the nodes of the file, for the lines of faults found later.
func (s source) parse(data []byte) (*yaml.Node, error) {
	if len(data) > maxBytes {
		return nil, &fault.Error{Err: s.sentinel, Where: s.where, Found: fmt.Sprintf("%d bytes", len(data)), Wanted: fmt.Sprintf("at most %d", maxBytes)}
	}
	var node yaml.Node
	if err := yaml.Load(data, &node); err != nil {
		return nil, s.located(err)
	}
	return &node, nil
}

// strict decodes over what is in to; unknown and repeated fields are errors.
func (s source) strict(data []byte, to any) error {
	if err := yaml.Load(data, to, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
		return s.located(err)
	}
	return nil
}

// Encode gives the canonical YAML of the recipe: every field that its scheme
// reads, defaults included, in a fixed order. Decode of it gives r back.
func (r *Recipe) Encode() []byte {
	data, err := yaml.Dump(r)
	if err != nil {
		panic("recipe: a recipe does not encode")
	}
	return data
}

// located turns the decoder's errors into faults, one each.
func (s source) located(err error) error {
	var many *yaml.LoadErrors
	if errors.As(err, &many) && len(many.Errors) > 0 {
		var faults []error
		for _, e := range many.Errors {
			faults = append(faults, s.fault(e))
		}
		return errors.Join(faults...)
	}
	var one *yaml.LoadError
	if errors.As(err, &one) {
		return s.fault(one)
	}
	return &fault.Error{Err: s.sentinel, Where: s.where, Found: err.Error(), Wanted: "one YAML document"}
}

func (s source) fault(e *yaml.LoadError) error {
	f := &fault.Error{Err: s.sentinel, Where: s.where, Found: e.Message}
	if e.Mark.Line > 0 {
		f.Where = fmt.Sprintf("%s:%d", s.where, e.Mark.Line)
	}
	var bad *badValue
	if errors.As(e, &bad) {
		f.Where += " (" + bad.field + ")"
		f.Found, f.Wanted = strconv.Quote(bad.found), bad.wanted
		return f
	}
	f.Hint = s.hint
	return f
}

// addLines puts "where:line" before the field of each fault that Validate found.
// A field that is absent takes the line of its nearest parent.
func addLines(where string, root *yaml.Node, err error) error {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	faults := make([]error, len(list))
	for i, e := range list {
		faults[i] = e
		var f *fault.Error
		if errors.As(e, &f) {
			g := *f
			g.Where = fmt.Sprintf("%s:%d (%s)", where, lineOf(root, strings.Split(f.Where, ".")), f.Where)
			faults[i] = &g
		}
	}
	return errors.Join(faults...)
}

func lineOf(n *yaml.Node, path []string) int {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		return lineOf(n.Content[0], path)
	}
	line := max(n.Line, 1)
	if len(path) == 0 {
		return line
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if key := n.Content[i]; key.Value == path[0] {
				if len(path) == 1 {
					return key.Line
				}
				return lineOf(n.Content[i+1], path[1:])
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(path[0]); err == nil && i < len(n.Content) {
			return lineOf(n.Content[i], path[1:])
		}
	default: // a scalar or an alias has no parts with a line
	}
	return line
}
