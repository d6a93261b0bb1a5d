package tokenizer

import "unicode/utf8"

// A scanner cuts text into the consecutive matches of one well-known pattern.
// next returns the end of the match that begins at s[i:], with i < next <=
// len(s): these patterns match everywhere, so matches leave no gaps. s is valid
// UTF-8. Each is proved equal to regexp2 running the pattern by a property test.
type scanner interface {
	next(s string, i int) int
}

// patternGPT2 also stands for the ByteLevel pre-tokenizer's own use_regex.
const patternGPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// Llama 3 and Qwen 2, 2.5 and 3 differ in how many digits stay together.
const (
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// scanners finds the scanner of a pattern by its exact text.
var scanners = map[string]scanner{
	patternGPT2:   gpt2Scanner{},
	patternLlama3: llamaScanner{digits: 3},
	patternQwen2:  llamaScanner{digits: 1},
}

// gpt2Scanner runs patternGPT2.
type gpt2Scanner struct{}

func (gpt2Scanner) next(s string, i int) int {
	t := classes()
	if s[i] == '\'' {
		if n := contraction(s[i+1:], false); n > 0 {
			return i + 1 + n
		}
	}
	j := i
	class, size := classAt(t, s, i)
	if s[i] == ' ' && i+1 < len(s) {
		// " ?" takes the blank only if something other than white space follows.
		if c, n := classAt(t, s, i+1); c != space {
			j, class, size = i+1, c, n
		}
	}
	if class == space {
		return blanks(s, i, false)
	}
	for j += size; j < len(s); j += size {
		var c uint8
		if c, size = classAt(t, s, j); c != class {
			break
		}
	}
	return j
}

// llamaScanner runs patternLlama3 (digits 3) and patternQwen2 (digits 1).
type llamaScanner struct{ digits int }

func (l llamaScanner) next(s string, i int) int {
	t := classes()
	first := s[i]
	if first == '\'' {
		if n := contraction(s[i+1:], true); n > 0 {
			return i + 1 + n
		}
	}
	class, size := classAt(t, s, i)
	j := i + size
	switch class {
	case number:
		for n := 1; n < l.digits && j < len(s); n++ {
			c, size := classAt(t, s, j)
			if c != number {
				break
			}
			j += size
		}
		return j
	case letter:
		return letters(s, j)
	}
	following := space
	if j < len(s) {
		following, size = classAt(t, s, j)
	}
	// [^\r\n\p{L}\p{N}]?\p{L}+
	if following == letter && first != '\r' && first != '\n' {
		return letters(s, j+size)
	}
	//  ?[^\s\p{L}\p{N}]+[\r\n]*
	if class == other || first == ' ' && following == other {
		for j < len(s) {
			c, size := classAt(t, s, j)
			if c != other {
				break
			}
			j += size
		}
		for j < len(s) && (s[j] == '\r' || s[j] == '\n') {
			j++
		}
		return j
	}
	return blanks(s, i, true)
}

// letters gives the end of the letters from s[i:] on.
func letters(s string, i int) int {
	t := classes()
	for i < len(s) {
		c, size := classAt(t, s, i)
		if c != letter {
			break
		}
		i += size
	}
	return i
}

// blanks matches white space from s[i:] on, where there is some: with lines,
// \s*[\r\n]+ up to the last line break of the run; then \s+(?!\S), which leaves
// the last character to the word behind it; then \s+.
func blanks(s string, i int, lines bool) int {
	t := classes()
	end, last, line := i, i, -1
	for end < len(s) {
		c, size := classAt(t, s, end)
		if c != space {
			break
		}
		last = end
		end += size
		if s[last] == '\r' || s[last] == '\n' {
			line = end
		}
	}
	if lines && line >= 0 {
		return line
	}
	if end == len(s) || last == i {
		return end
	}
	return last
}

// contraction gives the length of an English ending at the start of s: s, t,
// re, ve, m, ll or d. Without case, ſ is an s (U+017F folds to it).
func contraction(s string, anyCase bool) int {
	if s == "" {
		return 0
	}
	a, b := s[0], byte(0)
	if len(s) > 1 {
		b = s[1]
	}
	if anyCase {
		if a == 0xC5 && b == 0xBF {
			return utf8.RuneLen('ſ')
		}
		a, b = lower(a), lower(b)
	}
	switch {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return 1
	case a == 'r' && b == 'e' || a == 'v' && b == 'e' || a == 'l' && b == 'l':
		return 2
	}
	return 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
