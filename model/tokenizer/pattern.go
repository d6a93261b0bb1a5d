package tokenizer

import (
	"errors"
	"strings"
	"time"

	"quantize/internal/fault"

	"github.com/dlclark/regexp2/v2"
)

// Bounds on patterns from a file.
const (
	maxPattern   = 8 << 10         // bytes
	matchTimeout = 5 * time.Second // one match; regexp2 backtracks
)

// A matcher finds the matches of a pattern from left to right.
type matcher interface {
	// matches calls yield with the byte range of each match.
	matches(s string, yield func(start, end int)) error
}

// compile gives the matcher of a pattern.
func compile(p patternJSON, where string) (matcher, error) {
	switch {
	case p.String != nil && p.Regex == nil:
		if *p.String == "" {
			return nil, invalid(where, `an empty "String" pattern`, "text to find")
		}
		return literal(*p.String), nil
	case p.Regex != nil && p.String == nil:
		return compileRegex(*p.Regex, where)
	}
	return nil, invalid(where, "a pattern without text", `"String" or "Regex"`)
}

func compileRegex(text, where string) (matcher, error) {
	if s, ok := scanners[text]; ok {
		return scanned{s}, nil
	}
	if len(text) > maxPattern {
		return nil, unsupported(where, "a pattern of "+quote(text), "at most 8 KiB")
	}
	re, err := regexp2.Compile(text)
	if err != nil {
		return nil, &fault.Error{
			Err:   errors.Join(ErrUnsupported, err),
			Where: where, Found: "the pattern " + quote(text),
			Wanted: "a pattern that regexp2 can run",
		}
	}
	re.MatchTimeout = matchTimeout
	return regex{re}, nil
}

// literal matches fixed text.
type literal string

func (l literal) matches(s string, yield func(start, end int)) error {
	for at := 0; ; {
		i := strings.Index(s[at:], string(l))
		if i < 0 {
			return nil
		}
		yield(at+i, at+i+len(l))
		at += i + len(l)
	}
}

// scanned matches by a scanner.
type scanned struct{ scanner }

func (m scanned) matches(s string, yield func(start, end int)) error {
	for i := 0; i < len(s); {
		end := m.next(s, i)
		yield(i, end)
		i = end
	}
	return nil
}

// runeMatcher matches each character the predicate accepts.
type runeMatcher func(rune) bool

func (m runeMatcher) matches(s string, yield func(start, end int)) error {
	for i, r := range s {
		if m(r) {
			yield(i, i+len(string(r)))
		}
	}
	return nil
}

// regex matches with regexp2.
type regex struct{ *regexp2.Regexp }

func (m regex) matches(s string, yield func(start, end int)) error {
	found, err := m.FindAllStringIndex(s, -1)
	if err != nil {
		return &fault.Error{
			Err: errors.Join(ErrText, err), Where: "pre_tokenizer",
			Found: "the pattern " + quote(m.String()) + " did not finish on " + quote(s),
		}
	}
	for _, f := range found {
		yield(f[0], f[1])
	}
	return nil
}
