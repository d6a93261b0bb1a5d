package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"quantize/internal/fault"
)

// maxVocab bounds token ids: tables are allocated by the largest one.
const maxVocab = 1 << 22

// bpe is a byte-pair encoding (Sennrich et al., arXiv:1508.07909).
//
// An atom is what merging starts from: a byte if byteLevel, else a character.
// Keys of ids are raw bytes if byteLevel, else text.
type bpe struct {
	byteLevel    bool
	fallback     bool
	fuseUnk      bool
	ignoreMerges bool
	unk          int32 // -1 for none
	tokens       []string
	ids          map[string]int32
	merges       pairTable
	bytes        [256][]int32   // byteLevel: the symbols of each byte, nil for none
	ascii        [128]int32     // the symbol of a character, -1 for none
	runes        map[rune]int32 // the others
	byteIDs      [256]int32     // <0x00> to <0xFF>, -1 if missing
	cuts         *cutTable      // nil where cutting is not safe
}

// parseModel reads the "model" and also gives the vocabulary as it stands there.
func parseModel(raw json.RawMessage, byteLevel bool) (*bpe, map[string]int64, error) {
	const where = "model"
	if absent(raw) {
		return nil, nil, invalid(where, "none", "a BPE model")
	}
	var j modelJSON
	err := strict(raw, &j, where)
	if err != nil || j.Type != "BPE" {
		// Another model has other keys: its name says more than the first of them.
		if kind, e := kindOf(raw, where); e == nil && kind != "BPE" && (kind != "" || j.Merges == nil) {
			return nil, nil, unsupported(where, "type "+quote(kind), "BPE")
		}
	}
	if err != nil {
		return nil, nil, err
	}
	switch {
	case j.Vocab == nil:
		return nil, nil, invalid(where, "no vocab", "one: {\"token\": id}")
	case j.Merges == nil: // without them every text would silently fall apart into bytes
		return nil, nil, invalid(where, "no merges", "a list, which may be empty")
	case j.Dropout != nil && *j.Dropout != 0:
		return nil, nil, unsupported(where, fmt.Sprintf("dropout %v", *j.Dropout), "none")
	case j.ContinuingSubwordPrefix != nil && *j.ContinuingSubwordPrefix != "":
		return nil, nil, unsupported(where, "continuing_subword_prefix "+quote(*j.ContinuingSubwordPrefix), "none")
	case j.EndOfWordSuffix != nil && *j.EndOfWordSuffix != "":
		return nil, nil, unsupported(where, "end_of_word_suffix "+quote(*j.EndOfWordSuffix), "none")
	}
	m := &bpe{byteLevel: byteLevel, fallback: j.ByteFallback, fuseUnk: j.FuseUnk, ignoreMerges: j.IgnoreMerges, unk: -1}
	if m.tokens, err = tokenTable(j.Vocab); err != nil {
		return nil, nil, err
	}
	if j.UnkToken != nil {
		id, ok := j.Vocab[*j.UnkToken]
		if !ok {
			return nil, nil, invalid("model.unk_token", quote(*j.UnkToken), "a token of the vocabulary")
		}
		m.unk = int32(id)
	}
	m.index(j.Vocab)
	if err := m.addMerges(j.Vocab, j.Merges); err != nil {
		return nil, nil, err
	}
	m.cuts = newCutTable(m, j.Merges)
	return m, j.Vocab, nil
}

// tokenTable turns the vocabulary round. Ids may have gaps, within reason.
func tokenTable(vocab map[string]int64) ([]string, error) {
	most := min(int64(4*len(vocab)+4096), maxVocab)
	top := int64(-1)
	wrong := ""
	for token, id := range vocab {
		if id < 0 || id >= most {
			if wrong == "" || token < wrong {
				wrong = token
			}
		}
		top = max(top, id)
	}
	if wrong != "" {
		return nil, invalid("model.vocab", fmt.Sprintf("id %d of %s", vocab[wrong], quote(wrong)),
			fmt.Sprintf("0 to %d for %d tokens", most-1, len(vocab)))
	}
	table := make([]string, top+1)
	taken := make([]bool, top+1)
	twice := int64(-1)
	for token, id := range vocab {
		if taken[id] && (twice < 0 || id < twice) {
			twice = id
		}
		table[id], taken[id] = token, true
	}
	if twice >= 0 {
		return nil, invalid("model.vocab", fmt.Sprintf("id %d twice", twice), "one token for each id")
	}
	return table, nil
}

// index builds the lookups of tokens and atoms.
func (m *bpe) index(vocab map[string]int64) {
	for b := range m.byteIDs {
		m.byteIDs[b] = lookup(vocab, fmt.Sprintf("<0x%02X>", b))
	}
	if !m.byteLevel {
		m.ids = make(map[string]int32, len(vocab))
		m.runes = make(map[rune]int32)
		for i := range m.ascii {
			m.ascii[i] = -1
		}
		for token, id := range vocab {
			m.ids[token] = int32(id)
			r, size := utf8.DecodeRuneInString(token)
			switch {
			case size == 0 || size != len(token):
			case r < utf8.RuneSelf:
				m.ascii[r] = int32(id)
			default:
				m.runes[r] = int32(id)
			}
		}
		return
	}
	a := alphabet()
	if m.ignoreMerges {
		m.ids = make(map[string]int32, len(vocab))
		var buf []byte
		for token, id := range vocab {
			raw, ok := a.bytes(buf[:0], token)
			if buf = raw; ok {
				m.ids[string(raw)] = int32(id)
			}
		}
	}
	for b, r := range a.char {
		if id := lookup(vocab, string(r)); id >= 0 {
			m.bytes[b] = []int32{id}
		} else if m.fallback {
			m.bytes[b] = m.fallbackOf(string(r))
		}
	}
}

func lookup(vocab map[string]int64, token string) int32 {
	if id, ok := vocab[token]; ok {
		return int32(id)
	}
	return -1
}

// fallbackOf gives the byte tokens of a character, nil unless all exist.
func (m *bpe) fallbackOf(char string) []int32 {
	list := make([]int32, 0, utf8.UTFMax)
	for i := range len(char) {
		id := m.byteIDs[char[i]]
		if id < 0 {
			return nil
		}
		list = append(list, id)
	}
	return list
}

// addMerges fills the pair table; the rank of a merge is its place in the list.
func (m *bpe) addMerges(vocab map[string]int64, merges mergeList) error {
	m.merges = newPairTable(len(merges))
	var joined []byte
	for rank, p := range merges {
		joined = append(append(joined[:0], p[0]...), p[1]...)
		left, right := lookup(vocab, p[0]), lookup(vocab, p[1])
		id, ok := vocab[string(joined)]
		if left < 0 || right < 0 || !ok || p[0] == "" || p[1] == "" {
			return invalid(fmt.Sprintf("model.merges[%d]", rank), quote(p[0])+" and "+quote(p[1]),
				"two tokens of the vocabulary whose join is there too")
		}
		m.merges.put(left, right, rank, int(id))
	}
	return nil
}

// symbols appends what merging starts from. Unknown atoms become the unknown
// token, one for a run of them if fuseUnk. An unknown token waits until the
// next known atom, while byte tokens do not wait: the reference's order.
func (m *bpe) symbols(dst []int32, text string) ([]int32, error) {
	waiting := false
	for i := 0; i < len(text); {
		var known []int32
		one := int32(-1)
		size := 1
		if m.byteLevel {
			known = m.bytes[text[i]]
			if len(known) == 1 {
				one = known[0]
			}
		} else if c := text[i]; c < utf8.RuneSelf {
			one = m.ascii[c]
		} else {
			var r rune
			r, size = utf8.DecodeRuneInString(text[i:])
			if id, ok := m.runes[r]; ok {
				one = id
			}
		}
		if one < 0 && !m.byteLevel && m.fallback {
			known = m.fallbackOf(text[i : i+size])
		}
		switch {
		case one >= 0:
			if waiting {
				dst = append(dst, m.unk)
				waiting = false
			}
			dst = append(dst, one)
		case known != nil:
			dst = append(dst, known...)
		case m.unk < 0:
			return nil, &fault.Error{
				Err: ErrText, Where: "model.vocab",
				Found:  fmt.Sprintf("%s, which no token covers", quote(text[i:i+size])),
				Wanted: "a vocabulary with it, an unk_token or byte_fallback",
			}
		default:
			if waiting && !m.fuseUnk {
				dst = append(dst, m.unk)
			}
			waiting = true
		}
		i += size
	}
	if waiting {
		dst = append(dst, m.unk)
	}
	return dst, nil
}

// isByteToken reports a token that byte fallback can produce.
func (m *bpe) isByteToken(token string) bool {
	return strings.HasPrefix(token, "<0x") && slices.Contains(m.byteIDs[:], m.ids[token])
}
