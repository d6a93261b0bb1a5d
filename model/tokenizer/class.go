package tokenizer

import (
	"slices"
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
	{0x1C89, 0x1C8A, letter},
	{0xA7CB, 0xA7CD, letter},
	{0xA7DA, 0xA7DC, letter},
	{0x105C0, 0x105F3, letter},
	{0x10D40, 0x10D49, number},
	{0x10D4A, 0x10D65, letter},
	{0x10D6F, 0x10D85, letter},
	{0x10EC2, 0x10EC4, letter},
	{0x11380, 0x11389, letter},
	{0x1138B, 0x1138B, letter},
	{0x1138E, 0x1138E, letter},
	{0x11390, 0x113B5, letter},
	{0x113B7, 0x113B7, letter},
	{0x113D1, 0x113D1, letter},
	{0x113D3, 0x113D3, letter},
	{0x116D0, 0x116E3, number},
	{0x11BC0, 0x11BE0, letter},
	{0x11BF0, 0x11BF9, number},
	{0x13460, 0x143FA, letter},
	{0x16100, 0x1611D, letter},
	{0x16130, 0x16139, number},
	{0x16D40, 0x16D6C, letter},
	{0x16D70, 0x16D79, number},
	{0x18CFF, 0x18CFF, letter},
	{0x1CCF0, 0x1CCF9, number},
	{0x1E5D0, 0x1E5ED, letter},
	{0x1E5F0, 0x1E5F0, letter},
	{0x1E5F1, 0x1E5FA, number},
	{0x2EBF0, 0x2EE5D, letter},
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

// codeRanges lists code points by ranges, in order.
type codeRanges [][2]rune

func (c codeRanges) has(r rune) bool {
	_, ok := slices.BinarySearchFunc(c, r, func(x [2]rune, r rune) int {
		switch {
		case x[1] < r:
			return -1
		case x[0] > r:
			return 1
		}
		return 0
	})
	return ok
}

// punctuationDiffers is where the reference's \p{P} for Punctuation, which is
// that of Unicode 8, is not that of package unicode.
var punctuationDiffers = codeRanges{
	{0x061D, 0x061D},
	{0x09FD, 0x09FD},
	{0x0A76, 0x0A76},
	{0x0C77, 0x0C77},
	{0x0C84, 0x0C84},
	{0x166D, 0x166D},
	{0x1B7D, 0x1B7E},
	{0x2E43, 0x2E4F},
	{0x2E52, 0x2E5D},
	{0x10EAD, 0x10EAD},
	{0x10F55, 0x10F59},
	{0x10F86, 0x10F89},
	{0x111C9, 0x111C9},
	{0x1144B, 0x1144F},
	{0x1145A, 0x1145B},
	{0x1145D, 0x1145D},
	{0x11660, 0x1166C},
	{0x116B9, 0x116B9},
	{0x1183B, 0x1183B},
	{0x11944, 0x11946},
	{0x119E2, 0x119E2},
	{0x11A3F, 0x11A46},
	{0x11A9A, 0x11A9C},
	{0x11A9E, 0x11AA2},
	{0x11B00, 0x11B09},
	{0x11C41, 0x11C45},
	{0x11C70, 0x11C71},
	{0x11EF7, 0x11EF8},
	{0x11F43, 0x11F4F},
	{0x11FFF, 0x11FFF},
	{0x12FF1, 0x12FF2},
	{0x16E97, 0x16E9A},
	{0x16FE2, 0x16FE2},
	{0x1E95E, 0x1E95F},
}

// recentWord holds what Unicode 15.1 and 16 added to \w, besides letters.
var recentWord = codeRanges{
	{0x0897, 0x0897},
	{0x10D40, 0x10D49},
	{0x10D69, 0x10D6D},
	{0x10EFC, 0x10EFC},
	{0x113B8, 0x113C0},
	{0x113C2, 0x113C2},
	{0x113C5, 0x113C5},
	{0x113C7, 0x113CA},
	{0x113CC, 0x113D0},
	{0x113D2, 0x113D2},
	{0x113E1, 0x113E2},
	{0x116D0, 0x116E3},
	{0x11BF0, 0x11BF9},
	{0x11F5A, 0x11F5A},
	{0x1611E, 0x16139},
	{0x16D70, 0x16D79},
	{0x1CCF0, 0x1CCF9},
	{0x1E5EE, 0x1E5EF},
	{0x1E5F1, 0x1E5FA},
}

// isPunctuation is the Punctuation pre-tokenizer's test: ASCII punctuation
// (which includes symbols such as + and $) or \p{P}.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return '!' <= r && r <= '/' || ':' <= r && r <= '@' || '[' <= r && r <= '`' || '{' <= r && r <= '~'
	}
	return unicode.IsPunct(r) != punctuationDiffers.has(r)
}

// isWord is \w of the Rust regex crate, which decides "single_word":
// alphabetic, marks, decimal digits, connector punctuation, join controls.
func isWord(r rune) bool {
	if r < utf8.RuneSelf {
		return r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
	}
	return classes()[r] == letter || recentWord.has(r) ||
		unicode.In(r, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
