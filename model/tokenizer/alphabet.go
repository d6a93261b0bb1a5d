package tokenizer

import (
	"sync"
	"unicode/utf8"
)

// Byte-level files spell the 256 bytes as printable characters (GPT-2's
// bytes_to_unicode): printable Latin-1 stands for itself, the other 68 bytes
// are U+0100 and up, in order.
type byteAlphabet struct {
	char [256]rune
	of   [324]int16 // the byte of a character below U+0144, else -1
}

var alphabet = sync.OnceValue(func() *byteAlphabet {
	a := new(byteAlphabet)
	for i := range a.of {
		a.of[i] = -1
	}
	next := rune(256)
	for b := range a.char {
		r := rune(b)
		printable := '!' <= r && r <= '~' || 0xA1 <= r && r <= 0xAC || 0xAE <= r && r <= 0xFF
		if !printable {
			r = next
			next++
		}
		a.char[b] = r
		a.of[r] = int16(b)
	}
	return a
})

// bytes gives the bytes that a token of the file stands for; false if it holds
// a character outside the alphabet, so that no text can reach it.
func (a *byteAlphabet) bytes(dst []byte, token string) ([]byte, bool) {
	for _, r := range token {
		if int(r) >= len(a.of) || a.of[r] < 0 {
			return dst, false
		}
		dst = append(dst, byte(a.of[r]))
	}
	return dst, true
}

// valid replaces bytes that are not UTF-8 by U+FFFD, one for each longest
// start of a character, as Python and Rust do (Unicode 15, section 3.9).
// Package strings writes one for a whole run.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	out := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size <= 1 {
			out = utf8.AppendRune(out, utf8.RuneError)
			i += truncated(s[i:])
			continue
		}
		out = append(out, s[i:i+size]...)
		i += size
	}
	return string(out)
}

// truncated gives the length of the longest start of a character at s, at
// least 1, where s does not begin with a whole one (Table 3-7).
func truncated(s string) int {
	lo, hi, want := byte(0x80), byte(0xBF), 0
	switch c := s[0]; {
	case 0xC2 <= c && c <= 0xDF:
		want = 1
	case 0xE0 <= c && c <= 0xEF:
		want = 2
		switch c {
		case 0xE0:
			lo = 0xA0
		case 0xED:
			hi = 0x9F
		}
	case 0xF0 <= c && c <= 0xF4:
		want = 3
		switch c {
		case 0xF0:
			lo = 0x90
		case 0xF4:
			hi = 0x8F
		}
	}
	n := 1
	for n <= want && n < len(s) && lo <= s[n] && s[n] <= hi {
		lo, hi = 0x80, 0xBF
		n++
	}
	return n
}
