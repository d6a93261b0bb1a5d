package tokenizer

import "unicode/utf8"

// cutTable knows between which characters a merge can happen.
//
// A merge joins neighbours only where a token ending in x meets one beginning
// with y. Where no merge of the model does so for the characters x|y of a text,
// none can ever cross that place, so the sides are encoded apart with the same
// result. SentencePiece models have no pre-tokenizer but never merge over the
// end of a word, which turns a document of a megabyte into cacheable words.
type cutTable struct {
	ascii  [128][2]uint64 // bit y of row x: x|y can be joined
	others pairTable      // the pairs with a character beyond ASCII
}

// newCutTable builds the table, or nil for a model where the argument fails:
// byte-level ones are cut by their pre-tokenizer; without all byte tokens a run
// of unknown characters can fuse into one token; and a merge of byte or unknown
// tokens joins symbols whose name is not their text.
func newCutTable(m *bpe, merges mergeList) *cutTable {
	if m.byteLevel || !m.fallback {
		return nil
	}
	for _, id := range m.byteIDs {
		if id < 0 {
			return nil
		}
	}
	unk := ""
	if m.unk >= 0 {
		unk = m.tokens[m.unk]
	}
	t := &cutTable{others: newPairTable(len(merges))}
	for _, p := range merges {
		for _, side := range p {
			if side == "" || m.unk >= 0 && side == unk || m.isByteToken(side) {
				return nil
			}
		}
		x, _ := utf8.DecodeLastRuneInString(p[0])
		y, _ := utf8.DecodeRuneInString(p[1])
		if x < utf8.RuneSelf && y < utf8.RuneSelf {
			t.ascii[x][y/64] |= 1 << (y % 64)
		} else {
			t.others.put(x, y, 0, 0)
		}
	}
	return t
}

// joinable reports whether some merge can cross x|y.
func (t *cutTable) joinable(x, y rune) bool {
	if x < utf8.RuneSelf && y < utf8.RuneSelf {
		return t.ascii[x][y/64]>>(y%64)&1 != 0
	}
	return t.others.get(x, y) != noMerge
}

// next gives the end of the part that begins at s[i:].
func (t *cutTable) next(s string, i int) int {
	x, size := utf8.DecodeRuneInString(s[i:])
	for i += size; i < len(s); i += size {
		var y rune
		y, size = utf8.DecodeRuneInString(s[i:])
		if !t.joinable(x, y) {
			break
		}
		x = y
	}
	return i
}
