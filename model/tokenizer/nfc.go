package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nfc is Unicode normalization form C (UAX #15).
type nfc struct{}

// joiner is what package norm writes behind 30 combining marks in a row
// (stream-safe text, UAX #15 section 13); the reference does not.
const joiner = "\u034F"

func (nfc) normalize(s string) (string, error) {
	if norm.NFC.IsNormalString(s) {
		return s, nil
	}
	out := norm.NFC.String(s)
	if !joined(s, out) {
		return out, nil
	}
	// ASCII never composes with what stands before it: only the stretch with the
	// long run needs the slow way.
	var b strings.Builder
	for len(s) > 0 {
		end := 1
		for end < len(s) && (s[end] >= utf8.RuneSelf || s[end-1] < utf8.RuneSelf) {
			end++
		}
		out := norm.NFC.String(s[:end])
		if joined(s[:end], out) {
			out = composeLong(s[:end])
		}
		b.WriteString(out)
		s = s[end:]
	}
	return b.String(), nil
}

// joined reports that normalizing in to out put in a joiner.
func joined(in, out string) bool {
	return strings.Count(out, joiner) != strings.Count(in, joiner)
}

// composeLong follows UAX #15 literally: decompose, order the marks between
// starters by class, compose each with the last starter unless blocked.
func composeLong(s string) string {
	var rs []rune
	for i := 0; i < len(s); {
		p := norm.NFD.PropertiesString(s[i:])
		size := max(p.Size(), 1)
		if dec := p.Decomposition(); dec != nil {
			rs = append(rs, []rune(string(dec))...)
		} else {
			rs = append(rs, []rune(norm.NFD.String(s[i:i+size]))...) // Hangul decomposes by rule
		}
		i += size
	}
	for i := 0; i < len(rs); {
		j := i
		for j < len(rs) && ccc(rs[j]) != 0 {
			j++
		}
		slices.SortStableFunc(rs[i:j], func(a, b rune) int { return int(ccc(a)) - int(ccc(b)) })
		i = j + 1
	}
	out := rs[:0]
	starter, last := -1, uint8(0) // index in out; class of the rune kept before
	for _, r := range rs {
		c := ccc(r)
		if starter >= 0 && (starter == len(out)-1 || last != 0 && last < c) {
			if composed, ok := pair(out[starter], r); ok {
				out[starter] = composed
				continue
			}
		}
		if c == 0 {
			starter = len(out)
		}
		last = c
		out = append(out, r)
	}
	return string(out)
}

// pair composes two code points if they have a primary composite.
func pair(a, b rune) (rune, bool) {
	s := norm.NFC.String(string([]rune{a, b}))
	r, size := utf8.DecodeRuneInString(s)
	return r, size == len(s)
}

// ccc is the canonical combining class.
func ccc(r rune) uint8 {
	return norm.NFD.PropertiesString(string(r)).CCC()
}
