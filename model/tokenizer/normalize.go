package tokenizer

import (
	"encoding/json"
	"strings"
)

// A normalizer rewrites text before it is cut into pieces.
type normalizer interface {
	normalize(s string) (string, error)
}

// parseNormalizer reads the "normalizer" of tokenizer.json; nil for none.
func parseNormalizer(raw json.RawMessage, where string, depth int) (normalizer, error) {
	if absent(raw) {
		return nil, nil
	}
	kind, err := kindOf(raw, where)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "NFC":
		var j struct{ Type string }
		return nfc{}, strict(raw, &j, where)
	case "Prepend":
		var j struct{ Type, Prepend string }
		err := strict(raw, &j, where)
		return prepend(j.Prepend), err
	case "Replace":
		var j struct {
			Type    string
			Pattern patternJSON
			Content string
		}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		m, err := compile(j.Pattern, where+".pattern")
		return replace{m, j.Content}, err
	case "Sequence":
		var j struct {
			Type        string
			Normalizers []json.RawMessage
		}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		return sequence(j.Normalizers, where+".normalizers", depth, parseNormalizer,
			func(list []normalizer) normalizer { return normalizers(list) })
	}
	return nil, unsupported(where, "normalizer "+quote(kind), "NFC, Prepend, Replace or Sequence")
}

// sequence parses the members of a Sequence of any kind of component.
func sequence[T any](raw []json.RawMessage, where string, depth int,
	parse func(json.RawMessage, string, int) (T, error), join func([]T) T,
) (T, error) {
	var none T
	if depth >= maxNesting {
		return none, unsupported(where, "Sequence nested deeper than 8", "")
	}
	list := make([]T, 0, len(raw))
	for _, r := range raw {
		if absent(r) {
			return none, invalid(where, "null", "a component")
		}
		c, err := parse(r, where, depth+1)
		if err != nil {
			return none, err
		}
		list = append(list, c)
	}
	return join(list), nil
}

// prepend puts text before any text that is not empty.
type prepend string

func (p prepend) normalize(s string) (string, error) {
	if s == "" {
		return s, nil
	}
	return string(p) + s, nil
}

// replace puts content for every match.
type replace struct {
	matcher
	content string
}

func (n replace) normalize(s string) (string, error) {
	if l, ok := n.matcher.(literal); ok {
		return strings.ReplaceAll(s, string(l), n.content), nil
	}
	var b strings.Builder
	at := 0
	err := n.matches(s, func(start, end int) {
		b.WriteString(s[at:start])
		b.WriteString(n.content)
		at = end
	})
	b.WriteString(s[at:])
	return b.String(), err
}

// normalizers apply one after the other.
type normalizers []normalizer

func (list normalizers) normalize(s string) (string, error) {
	for _, n := range list {
		var err error
		if s, err = n.normalize(s); err != nil {
			return "", err
		}
	}
	return s, nil
}
