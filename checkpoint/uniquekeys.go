package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// UniqueKeys refuses JSON in which an object, at any depth, has a key twice: two
// readers of it may see two different models. What is wrong otherwise is for the
// parser to tell.
func UniqueKeys(data []byte) error {
	if !json.Valid(data) { // which also bounds the nesting
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // no number is too large to pass by
	type level struct {
		object bool
		key    bool            // comes next
		seen   map[string]bool // so far; made for the first
	}
	var open []level
	for t, err := d.Token(); err == nil; t, err = d.Token() {
		if n := len(open); n > 0 && open[n-1].key {
			if key, ok := t.(string); ok {
				o := &open[n-1]
				if o.seen[key] {
					return fmt.Errorf("%s twice in one object", quote(key))
				}
				if o.seen == nil {
					o.seen = make(map[string]bool)
				}
				o.seen[key], o.key = true, false
				continue
			}
		}
		switch t {
		case json.Delim('{'):
			open = append(open, level{object: true, key: true})
			continue
		case json.Delim('['):
			open = append(open, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if n := len(open); n > 0 { // a value has ended
			open[n-1].key = open[n-1].object
		}
	}
	return nil
}
