package tokenizer

import (
	"testing"
	"unicode"
)

// Every code point has the class that the reference's regular expressions and
// predicates give it; testdata/classes.json is what they say.
func TestClassesEqualReference(t *testing.T) {
	t.Parallel()
	want := readJSON[map[string][][2]rune](t, "testdata/classes.json")
	table := classes()
	for name, is := range map[string]func(rune) bool{
		"letter":      func(r rune) bool { return table[r] == letter },
		"number":      func(r rune) bool { return table[r] == number },
		"space":       func(r rune) bool { return table[r] == space },
		"numeric":     isNumeric,
		"punctuation": isPunctuation,
		"word":        isWord,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in [unicode.MaxRune + 1]bool
			for _, r := range want[name] {
				for x := r[0]; x <= r[1]; x++ {
					in[x] = true
				}
			}
			wrong := 0
			for r := range rune(len(in)) {
				if 0xD800 <= r && r < 0xE000 || is(r) == in[r] {
					continue
				}
				if wrong++; wrong < 20 {
					t.Errorf("%U: %v, the reference says %v", r, is(r), in[r])
				}
			}
			if wrong > 0 {
				t.Errorf("%d code points differ", wrong)
			}
		})
	}
}
