package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"quantize/internal/fault"
)

// fields reads a JSON object whose every field must be accounted for. Faults
// are collected, so that one run shows them all.
type fields struct {
	where  string // prefix of fault.Error.Where
	values map[string]json.RawMessage
	seen   map[string]bool
	faults []error
}

func parseFields(where string, data []byte) (*fields, error) {
	f := &fields{where: where, seen: map[string]bool{}}
	if err := json.Unmarshal(data, &f.values); err != nil {
		return nil, &fault.Error{Err: ErrConfig, Where: where, Found: err.Error(), Wanted: "a JSON object"}
	}
	if f.values == nil {
		return nil, &fault.Error{Err: ErrConfig, Where: where, Found: "null", Wanted: "a JSON object"}
	}
	return f, nil
}

func (f *fields) fail(name, found, wanted, hint string) {
	f.faults = append(f.faults, &fault.Error{
		Err: ErrConfig, Where: f.where + " " + name, Found: found, Wanted: wanted, Hint: hint,
	})
}

// has reports whether the field is there and not null, and marks it as read.
func (f *fields) has(name string) bool {
	f.seen[name] = true
	raw, ok := f.values[name]
	return ok && !isNull(raw)
}

// null reports whether the field is there with the value null.
func (f *fields) null(name string) bool {
	raw, ok := f.values[name]
	return ok && isNull(raw)
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// decode reports whether name was there and well-formed.
func (f *fields) decode(name, wanted string, v any) bool {
	if !f.has(name) {
		return false
	}
	if err := json.Unmarshal(f.values[name], v); err != nil {
		f.fail(name, excerpt(f.values[name]), wanted, "")
		return false
	}
	return true
}

// count reads an integer of 1..limit, or def if absent; def 0 means required.
func (f *fields) count(name string, def, limit int) int {
	wanted := fmt.Sprintf("an integer from 1 to %d", limit)
	var v int
	switch {
	case f.decode(name, wanted, &v):
		if v < 1 || v > limit {
			f.fail(name, fmt.Sprint(v), wanted, "")
		}
		return v
	case !f.has(name) && def == 0:
		f.fail(name, "nothing", wanted, "")
	}
	return def
}

// positive reads a finite number above zero, or def if absent; def 0 means required.
func (f *fields) positive(name string, def float64) float64 {
	const wanted = "a positive number"
	var v float64
	switch {
	case f.decode(name, wanted, &v):
		if !(v > 0) || math.IsInf(v, 0) {
			f.fail(name, excerpt(f.values[name]), wanted, "")
		}
		return v
	case !f.has(name) && def == 0:
		f.fail(name, "nothing", wanted, "")
	}
	return def
}

func (f *fields) flag(name string, def bool) bool {
	v := def
	f.decode(name, "true or false", &v)
	return v
}

func (f *fields) text(name string) string {
	var v string
	f.decode(name, "a string", &v)
	return v
}

// object reads a nested object; nil when absent, null, or empty.
func (f *fields) object(name string) *fields {
	if !f.has(name) {
		return nil
	}
	o, err := parseFields(f.where+" "+name, f.values[name])
	if err != nil {
		f.faults = append(f.faults, err)
		return nil
	}
	if len(o.values) == 0 {
		return nil
	}
	return o
}

// fixed demands that each field, where present and not null, shows its value.
func (f *fields) fixed(want map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !f.has(name) {
			continue
		}
		var v any
		if err := json.Unmarshal(f.values[name], &v); err != nil || !equalJSON(v, want[name]) {
			f.fail(name, excerpt(f.values[name]), describeJSON(want[name]), "this field changes the mathematics in a way that is not supported")
		}
	}
}

// rest fails for every field that nobody read and that is neither null nor harmless.
func (f *fields) rest(harmless func(name string) bool, hint string) {
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		if f.seen[name] || isNull(f.values[name]) || harmless(name) {
			continue
		}
		f.fail(name, excerpt(f.values[name]), "a known field", hint)
	}
}

// equalJSON compares scalars; want may be a list of alternatives.
func equalJSON(v, want any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return equalJSON(v, w) })
	}
	switch v.(type) {
	case nil, bool, float64, string:
		return v == want
	}
	return false
}

func describeJSON(want any) string {
	if list, ok := want.([]any); ok {
		parts := make([]string, len(list))
		for i, w := range list {
			parts[i] = describeJSON(w)
		}
		return strings.Join(parts, " or ")
	}
	if want == nil {
		return "null"
	}
	b, err := json.Marshal(want)
	if err != nil {
		panic("model: fixed value is not JSON")
	}
	return string(b) + " or null"
}

// excerpt shows the start of a value from a file on one line.
func excerpt(raw json.RawMessage) string {
	const most = 80
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil || b.Len() == 0 {
		return "nothing"
	}
	if b.Len() > most {
		return strings.ToValidUTF8(b.String()[:most], "") + "..."
	}
	return b.String()
}
