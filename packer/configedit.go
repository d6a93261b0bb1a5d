package packer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"quantize/internal/fault"
)

const configKey = "quantization_config"

// WithQuantizationConfig returns the config.json source with q under
// "quantization_config", in place of an old one if there is one. Every other
// byte of the object, unknown keys and their order included, stays as it is.
func WithQuantizationConfig(source []byte, q *QuantizationConfig) ([]byte, error) {
	return ReplaceQuantizationConfig(source, q)
}

// ReplaceQuantizationConfig is [WithQuantizationConfig] for a configuration of
// another format: anything that JSON encodes. With nil the member is removed.
func ReplaceQuantizationConfig(source []byte, q any) ([]byte, error) {
	if q == nil {
		return withoutMember(source, configKey)
	}
	value, err := json.MarshalIndent(q, "  ", "  ")
	if err != nil {
		return nil, fmt.Errorf("quantization_config: %w", err)
	}
	return withMember(source, configKey, value)
}

// withoutMember returns a JSON object without key, every other byte but the
// comma beside it as it is.
func withoutMember(source []byte, key string) ([]byte, error) {
	if err := uniqueKeys(source); err != nil {
		return nil, err
	}
	members, end, err := topLevel(source)
	if err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: "config.json", Found: err.Error(), Wanted: "a JSON object"}
	}
	for i, m := range members {
		switch {
		case m.key != key:
			continue
		case i > 0: // from the end of the value before
			return slices.Concat(source[:members[i-1].to], source[m.to:]), nil
		case len(members) > 1: // to the key after
			from := bytes.IndexByte(source, '{') + 1
			comma := m.to + bytes.IndexByte(source[m.to:], ',') + 1
			return slices.Concat(source[:from], source[comma:]), nil
		default:
			return slices.Concat(source[:bytes.IndexByte(source, '{')+1], source[end:]), nil
		}
	}
	return slices.Clone(source), nil
}

// withMember returns a JSON object with value under key, every other byte of it
// as it is.
func withMember(source []byte, key string, value []byte) ([]byte, error) {
	if err := uniqueKeys(source); err != nil {
		return nil, err
	}
	members, end, err := topLevel(source)
	if err != nil {
		return nil, &fault.Error{Err: ErrInvalid, Where: "config.json", Found: err.Error(), Wanted: "a JSON object"}
	}
	var out bytes.Buffer
	for _, m := range members {
		if m.key == key {
			out.Write(source[:m.from])
			out.Write(value)
			out.Write(source[m.to:])
			return out.Bytes(), nil
		}
	}
	head := bytes.TrimRight(source[:end], " \t\r\n")
	out.Write(head)
	if len(members) > 0 {
		out.WriteByte(',')
	}
	fmt.Fprintf(&out, "\n  %q: %s\n", key, value)
	out.Write(source[end:])
	return out.Bytes(), nil
}

// member is the place of one value of an object.
type member struct {
	key      string
	from, to int
}

// topLevel finds the members of the object that is all of data, and the offset
// of its closing brace.
func topLevel(data []byte) (members []member, end int, err error) {
	if len(data) > largestConfig {
		return nil, 0, fmt.Errorf("%d bytes", len(data))
	}
	if !json.Valid(data) {
		return nil, 0, fmt.Errorf("malformed JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, 0, fmt.Errorf("%v", t)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, 0, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, 0, err
		}
		to := int(d.InputOffset())
		members = append(members, member{key: fmt.Sprint(key), from: to - len(value), to: to})
	}
	if _, err := d.Token(); err != nil {
		return nil, 0, err
	}
	return members, int(d.InputOffset()) - 1, nil
}

// sameButActivations reports where two config.json files differ, apart from the
// input_activations of their groups; "" when nowhere.
func sameButActivations(a, b []byte) string {
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		return err.Error()
	}
	if err := json.Unmarshal(b, &y); err != nil {
		return err.Error()
	}
	return firstDifference("", x, y)
}

func firstDifference(path string, x, y any) string {
	mx, okx := x.(map[string]any)
	my, oky := y.(map[string]any)
	if !okx || !oky {
		cx, _ := json.Marshal(x)
		cy, _ := json.Marshal(y)
		if bytes.Equal(cx, cy) {
			return ""
		}
		return path
	}
	for _, key := range sortedKeys(mx, my) {
		at := strings.TrimPrefix(path+"."+key, ".")
		if key == "input_activations" && strings.HasPrefix(path, configKey+".config_groups.") {
			continue
		}
		vx, inX := mx[key]
		vy, inY := my[key]
		if inX != inY {
			return at
		}
		if d := firstDifference(at, vx, vy); d != "" {
			return d
		}
	}
	return ""
}

func sortedKeys(ms ...map[string]any) []string {
	seen := map[string]bool{}
	var keys []string
	for _, m := range ms {
		for k := range m {
			if !seen[k] {
				seen[k] = true
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return keys
}
