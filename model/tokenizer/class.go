package tokenizer

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// Classes of characters that the pre-tokenization patterns tell apart. Every
// character has exactly one; other is whatever is not \p{L}, \p{N} or \s.
const (
	other uint8 = iota
	letter
	number
	space
)

// recent holds what Unicode 15.1 and 16 added to \p{L} and \p{N}, which the
// regular expressions of the reference (Oniguruma, Unicode 16) know and
// package unicode (15.0) does not. Nothing was added to \s.
var recent = [...]struct {
	lo, hi rune
	class  uint8
}{
	{0x1C89, 0x1C8A, letter}, {0xA7CB, 0xA7CD, letter}, {0xA7DA, 0xA7DC, letter},
	{0x105C0, 0x105F3, letter}, {0x10D40, 0x10D49, number}, {0x10D4A, 0x10D65, letter},
	{0x10D6F, 0x10D85, letter}, {0x10EC2, 0x10EC4, letter}, {0x11380, 0x11389, letter},
	{0x1138B, 0x1138B, letter}, {0x1138E, 0x1138E, letter}, {0x11390, 0x113B5, letter},
	{0x113B7, 0x113B7, letter}, {0x113D1, 0x113D1, letter}, {0x113D3, 0x113D3, letter},
	{0x116D0, 0x116E3, number}, {0x11BC0, 0x11BE0, letter}, {0x11BF0, 0x11BF9, number},
	{0x13460, 0x143FA, letter}, {0x16100, 0x1611D, letter}, {0x16130, 0x16139, number},
	{0x16D40, 0x16D6C, letter}, {0x16D70, 0x16D79, number}, {0x18CFF, 0x18CFF, letter},
	{0x1CCF0, 0x1CCF9, number}, {0x1E5D0, 0x1E5ED, letter}, {0x1E5F0, 0x1E5F0, letter},
	{0x1E5F1, 0x1E5FA, number}, {0x2EBF0, 0x2EE5D, letter},
}

// classes gives the class of every code point: 1.1 MB, built on first use.
var classes = sync.OnceValue(func() *[unicode.MaxRune + 1]uint8 {
	t := new([unicode.MaxRune + 1]uint8)
	for _, c := range []struct {
		table *unicode.RangeTable
		class uint8
	}{{unicode.L, letter}, {unicode.N, number}, {unicode.White_Space, space}} {
		for _, r := range c.table.R16 {
			for x := uint32(r.Lo); x <= uint32(r.Hi); x += uint32(r.Stride) {
				t[x] = c.class
			}
		}
		for _, r := range c.table.R32 {
			for x := r.Lo; x <= r.Hi; x += r.Stride {
				t[x] = c.class
			}
		}
	}
	for _, r := range recent {
		for x := r.lo; x <= r.hi; x++ {
			t[x] = r.class
		}
	}
	return t
})

// classAt gives the class and the length in bytes of the character at s[i:].
// s is valid UTF-8.
func classAt(t *[unicode.MaxRune + 1]uint8, s string, i int) (class uint8, size int) {
	if c := s[i]; c < utf8.RuneSelf {
		return t[c], 1
	}
	r, size := utf8.DecodeRuneInString(s[i:])
	return t[r], size
}

// isNumeric is Rust's char::is_numeric as the Digits pre-tokenizer uses it: \p{N}
// of Unicode 17.
func isNumeric(r rune) bool {
	if r < utf8.RuneSelf {
		return '0' <= r && r <= '9'
	}
	return classes()[r] == number || 0x11DE0 <= r && r <= 0x11DE9 || 0x16FF4 <= r && r <= 0x16FF6
}

// isPunctuation is the Punctuation pre-tokenizer's test: ASCII punctuation
// (which includes symbols such as + and $) or \p{P}.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return '!' <= r && r <= '/' || ':' <= r && r <= '@' || '[' <= r && r <= '`' || '{' <= r && r <= '~'
	}
	return unicode.IsPunct(r)
}

// isWord is \w of the Rust regex crate, which decides "single_word":
// alphabetic, marks, decimal digits, connector punctuation, join controls.
func isWord(r rune) bool {
	if r < utf8.RuneSelf {
		return r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
	}
	return classes()[r] == letter ||
		unicode.In(r, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
