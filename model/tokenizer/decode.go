package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// A decoder rewrites the list of tokens; the text is their concatenation.
type decoder interface {
	decode(tokens []string) []string
}

// parseDecoder reads the "decoder"; nil for none.
func parseDecoder(raw json.RawMessage, where string, depth int) (decoder, error) {
	if absent(raw) {
		return nil, nil
	}
	kind, err := kindOf(raw, where)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "ByteLevel": // its options concern encoding
		return byteLevelDecoder{}, nil
	case "ByteFallback":
		return byteFallbackDecoder{}, nil
	case "Fuse":
		return fuse{}, nil
	case "Metaspace":
		m, err := parseMetaspace(raw, where)
		return m, err
	case "Strip":
		var j struct {
			Type        string
			Content     string
			Start, Stop int
		}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(j.Content) != 1 || j.Start < 0 || j.Stop < 0 {
			return nil, invalid(where, "content "+quote(j.Content), "one character and counts from 0")
		}
		return strip{j.Content, j.Start, j.Stop}, nil
	case "Replace":
		var j struct {
			Type    string
			Pattern patternJSON
			Content string
		}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		if j.Pattern.Regex != nil {
			return nil, unsupported(where, "a Regex to replace", "a String")
		}
		if j.Pattern.String == nil || *j.Pattern.String == "" {
			return nil, invalid(where, "no text to replace", "a String")
		}
		return replaceDecoder{*j.Pattern.String, j.Content}, nil
	case "Sequence":
		var j struct {
			Type     string
			Decoders []json.RawMessage
		}
		if err := strict(raw, &j, where); err != nil {
			return nil, err
		}
		return sequence(j.Decoders, where+".decoders", depth, parseDecoder,
			func(list []decoder) decoder { return decoders(list) })
	}
	return nil, unsupported(where, "decoder "+quote(kind),
		"ByteLevel, ByteFallback, Fuse, Metaspace, Strip, Replace or Sequence")
}

type decoders []decoder

func (list decoders) decode(tokens []string) []string {
	for _, d := range list {
		tokens = d.decode(tokens)
	}
	return tokens
}

// byteLevelDecoder turns characters back into bytes, except in tokens with a
// character outside the alphabet, which stay as they are.
type byteLevelDecoder struct{}

func (byteLevelDecoder) decode(tokens []string) []string {
	a := alphabet()
	var out []byte
	for _, t := range tokens {
		more, ok := a.bytes(out, t)
		if !ok {
			more = append(out, t...)
		}
		out = more
	}
	return []string{valid(string(out))}
}

// byteFallbackDecoder turns runs of <0xNN> into text; each byte of a run that
// is not UTF-8 becomes U+FFFD.
type byteFallbackDecoder struct{}

func (byteFallbackDecoder) decode(tokens []string) []string {
	out := make([]string, 0, len(tokens))
	var run []byte
	flush := func() {
		switch {
		case len(run) == 0:
		case utf8.Valid(run):
			out = append(out, string(run))
		default:
			out = append(out, strings.Repeat("\uFFFD", len(run)))
		}
		run = run[:0]
	}
	for _, t := range tokens {
		if b, ok := byteToken(t); ok {
			run = append(run, b)
			continue
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}

// byteToken reads <0xNN>.
func byteToken(t string) (byte, bool) {
	if len(t) != 6 || t[:3] != "<0x" || t[5] != '>' {
		return 0, false
	}
	hi, ok1 := hex(t[3])
	lo, ok2 := hex(t[4])
	return hi<<4 | lo, ok1 && ok2
}

func hex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// fuse makes one token of all.
type fuse struct{}

func (fuse) decode(tokens []string) []string { return []string{strings.Join(tokens, "")} }

// replaceDecoder replaces text inside each token.
type replaceDecoder struct{ from, to string }

func (r replaceDecoder) decode(tokens []string) []string {
	out := slices.Clone(tokens)
	for i, t := range out {
		out[i] = strings.ReplaceAll(t, r.from, r.to)
	}
	return out
}

// strip takes up to start characters from the front of each token and up to
// stop from its end, while they are content.
type strip struct {
	content     string
	start, stop int
}

func (s strip) decode(tokens []string) []string {
	out := slices.Clone(tokens)
	for i, t := range out {
		for n := 0; n < s.start && strings.HasPrefix(t, s.content); n++ {
			t = t[len(s.content):]
		}
		for n := 0; n < s.stop && strings.HasSuffix(t, s.content); n++ {
			t = t[:len(t)-len(s.content)]
		}
		out[i] = t
	}
	return out
}

// decode writes blanks for the replacement; the first token's is dropped where
// encoding put it there.
func (m metaspace) decode(tokens []string) []string {
	out := slices.Clone(tokens)
	for i, t := range out {
		blank := " "
		if i == 0 && m.scheme != "never" {
			blank = ""
		}
		out[i] = strings.ReplaceAll(t, m.replacement, blank)
	}
	return out
}
