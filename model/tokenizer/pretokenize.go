package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// piece is text on its way through the pre-tokenizers. start says that it
// begins where the whole text does, which Metaspace's "first" asks.
type piece struct {
	text  string
	start bool
}

// A step is one pre-tokenizer: it hands on the parts of a piece, empty ones left out.
type step interface {
	split(p piece, yield func(piece) error) error
}

// parsePreTokenizer reads the "pre_tokenizer". byteLevel says that a ByteLevel
// is the last of the steps: the model then works on bytes.
func parsePreTokenizer(raw json.RawMessage) (list []step, byteLevel bool, err error) {
	if absent(raw) {
		return nil, false, nil
	}
	list, err = parseSteps(raw, "pre_tokenizer", 0)
	if err != nil {
		return nil, false, err
	}
	for i, s := range list {
		if _, ok := s.(byteLevelStep); ok && i < len(list)-1 {
			return nil, false, unsupported("pre_tokenizer", "ByteLevel before another pre-tokenizer", "ByteLevel last")
		}
	}
	if n := len(list); n > 0 {
		_, byteLevel = list[n-1].(byteLevelStep)
	}
	return list, byteLevel, nil
}

// parseSteps reads a pre-tokenizer; a Sequence gives several steps.
func parseSteps(raw json.RawMessage, where string, depth int) ([]step, error) {
	kind, err := kindOf(raw, where)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "ByteLevel":
		j := struct {
			Type           string
			AddPrefixSpace bool  `json:"add_prefix_space"`
			TrimOffsets    *bool `json:"trim_offsets"`
			UseRegex       bool  `json:"use_regex"`
		}{UseRegex: true}
		err := strict(raw, &j, where)
		return []step{byteLevelStep{j.AddPrefixSpace, j.UseRegex}}, err
	case "Split":
		var j struct {
			Type     string
			Pattern  patternJSON
			Behavior behavior
			Invert   bool
		}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		m, err := compile(j.Pattern, where+".pattern")
		if err != nil {
			return nil, err
		}
		return []step{splitStep{m, j.Behavior, j.Invert}}, j.Behavior.check(where)
	case "Digits":
		var j struct {
			Type             string
			IndividualDigits bool `json:"individual_digits"`
		}
		err := strict(raw, &j, where)
		b := contiguous
		if j.IndividualDigits {
			b = isolated
		}
		return []step{splitStep{runeMatcher(isNumeric), b, false}}, err
	case "Punctuation":
		j := struct {
			Type     string
			Behavior behavior
		}{Behavior: isolated}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		return []step{splitStep{runeMatcher(isPunctuation), j.Behavior, false}}, j.Behavior.check(where)
	case "Metaspace":
		m, err := parseMetaspace(raw, where)
		return []step{m}, err
	case "Sequence":
		var j struct {
			Type          string
			PreTokenizers []json.RawMessage `json:"pretokenizers"`
		}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		return sequence(j.PreTokenizers, where+".pretokenizers", depth, parseSteps,
			func(lists [][]step) []step { return slices.Concat(lists...) })
	}
	return nil, unsupported(where, "pre-tokenizer "+quote(kind),
		"ByteLevel, Split, Digits, Punctuation, Metaspace or Sequence")
}

// byteLevelStep cuts by GPT-2's pattern, if regex is set. That the file spells
// bytes as characters is the model's affair (alphabet.go), text stays text.
type byteLevelStep struct{ prefixSpace, regex bool }

func (b byteLevelStep) split(p piece, yield func(piece) error) error {
	s := p.text
	if b.prefixSpace && s[0] != ' ' {
		s = " " + s
	}
	if !b.regex {
		return yield(piece{s, p.start})
	}
	return each(gpt2Scanner{}, piece{s, p.start}, yield)
}

// each hands on the parts that a scanner finds.
func each(m scanner, p piece, yield func(piece) error) error {
	for i := 0; i < len(p.text); {
		end := m.next(p.text, i)
		if err := yield(piece{p.text[i:end], p.start && i == 0}); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// splitStep splits at the matches of a pattern.
type splitStep struct {
	matcher
	behavior behavior
	invert   bool
}

func (s splitStep) split(p piece, yield func(piece) error) error {
	if m, ok := s.matcher.(scanned); ok && s.behavior == isolated {
		return each(m.scanner, p, yield) // no gaps, so invert changes nothing
	}
	list, err := spans(s.matcher, p.text, s.invert)
	if err != nil {
		return err
	}
	for _, x := range s.behavior.arrange(list) {
		if x.start == x.end {
			continue
		}
		if err := yield(piece{p.text[x.start:x.end], p.start && x.start == 0}); err != nil {
			return err
		}
	}
	return nil
}

// metaspace writes blanks as replacement (▁), puts one before the text as
// scheme says, and splits before each.
type metaspace struct {
	replacement string
	scheme      string // always, first, never
	cut         bool
}

func parseMetaspace(raw json.RawMessage, where string) (metaspace, error) {
	var j struct {
		Type           string
		Replacement    string
		PrependScheme  *string `json:"prepend_scheme"`
		Split          *bool
		AddPrefixSpace *bool   `json:"add_prefix_space"` // before 0.15
		StrRep         *string `json:"str_rep"`          // a copy of replacement
	}
	if err := strict(raw, &j, where); err != nil {
		return metaspace{}, err
	}
	m := metaspace{replacement: j.Replacement, scheme: "always", cut: j.Split == nil || *j.Split}
	if utf8.RuneCountInString(m.replacement) != 1 {
		return m, invalid(where, "replacement "+quote(m.replacement), "one character")
	}
	if j.AddPrefixSpace != nil && !*j.AddPrefixSpace {
		m.scheme = "never"
		if j.PrependScheme != nil && *j.PrependScheme != "never" {
			return m, invalid(where, "add_prefix_space false and prepend_scheme "+quote(*j.PrependScheme), "one rule")
		}
	}
	if j.PrependScheme != nil {
		m.scheme = *j.PrependScheme
	}
	switch m.scheme {
	case "always", "first", "never":
		return m, nil
	}
	return m, unsupported(where, "prepend_scheme "+quote(m.scheme), "always, first or never")
}

func (m metaspace) split(p piece, yield func(piece) error) error {
	s := strings.ReplaceAll(p.text, " ", m.replacement)
	if !strings.HasPrefix(s, m.replacement) && (m.scheme == "always" || m.scheme == "first" && p.start) {
		s = m.replacement + s
	}
	for from := 0; m.cut; {
		i := strings.Index(s[from+1:], m.replacement)
		if i < 0 {
			s = s[from:]
			p.start = p.start && from == 0
			break
		}
		end := from + 1 + i
		if err := yield(piece{s[from:end], p.start && from == 0}); err != nil {
			return err
		}
		from = end
	}
	return yield(piece{s, p.start})
}
