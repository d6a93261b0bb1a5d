package tokenizer

import (
	"cmp"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of "added_tokens": text that is a token wherever it
// stands, before any other step.
type addedToken struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only between characters that are not \w
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // and behind it
	Normalized bool   `json:"normalized"`  // is looked for in normalized text
	Special    bool   `json:"special"`

	name string // Content, normalized if Normalized: what decoding writes
}

// addedTokens finds added tokens in raw and in normalized text.
type addedTokens struct {
	list            []addedToken
	raw, normalized trie
}

// newAddedTokens checks the ids against the vocabulary and builds the tries.
//
// The reference ignores the ids of the file: a token in the vocabulary has its
// id there, the others, in order of their ids, are numbered on from its size.
// A file that says otherwise would give other ids there than here.
func newAddedTokens(list []addedToken, m *bpe, vocab map[string]int64, n normalizer) (*addedTokens, error) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b addedToken) int { return cmp.Compare(a.ID, b.ID) })
	a := &addedTokens{}
	seen := make(map[string]bool)
	free := int64(len(vocab))
	for _, t := range list {
		where := "added_tokens: " + quote(t.Content)
		if t.Content == "" || seen[t.Content] {
			return nil, invalid("added_tokens", fmt.Sprintf("%s, id %d", quote(t.Content), t.ID), "text that is not there yet")
		}
		seen[t.Content] = true
		want, ok := vocab[t.Content]
		if !ok {
			want = free
			free++
		}
		if t.ID != want {
			return nil, invalid(where, fmt.Sprintf("id %d", t.ID), fmt.Sprintf("%d, which follows from the vocabulary", want))
		}
		if !ok && want < int64(len(m.tokens)) && m.tokens[want] != "" {
			return nil, invalid(where, fmt.Sprintf("id %d, taken by %s", want, quote(m.tokens[want])), "a free id")
		}
		t.name = t.Content
		tr := &a.raw
		if t.Normalized {
			tr = &a.normalized
			if n != nil {
				var err error
				if t.name, err = n.normalize(t.Content); err != nil {
					return nil, err
				}
			}
		}
		if t.name != "" {
			tr.add(t.name, int32(len(a.list)))
		}
		a.list = append(a.list, t)
	}
	return a, nil
}

// split walks over text: yield gets an added token's id with its range, or -1
// with the range between two.
func (a *addedTokens) split(t *trie, s string, yield func(id int32, start, end int) error) error {
	done := 0
	for from := 0; ; {
		start, end, which := t.find(s, from)
		if which < 0 {
			break
		}
		from = end // a match that is turned down is still passed over
		tok := &a.list[which]
		if tok.SingleWord {
			before, _ := utf8.DecodeLastRuneInString(s[:start])
			after, _ := utf8.DecodeRuneInString(s[end:])
			if start > 0 && isWord(before) || end < len(s) && isWord(after) {
				continue
			}
		}
		if tok.LStrip {
			for start > done {
				r, size := utf8.DecodeLastRuneInString(s[:start])
				if !unicode.IsSpace(r) {
					break
				}
				start -= size
			}
			start = max(start, done)
		}
		if tok.RStrip {
			for end < len(s) {
				r, size := utf8.DecodeRuneInString(s[end:])
				if !unicode.IsSpace(r) {
					break
				}
				end += size
			}
		}
		if done < start {
			if err := yield(-1, done, start); err != nil {
				return err
			}
		}
		if err := yield(int32(tok.ID), start, end); err != nil {
			return err
		}
		done = end
	}
	if done < len(s) {
		return yield(-1, done, len(s))
	}
	return nil
}

// trie finds the leftmost, then longest, of a set of texts.
type trie struct {
	first [256]bool // bytes that begin one: most of a text is skipped by it
	edges map[edge]int32
	ends  []int32 // by node: which text ends here, -1 for none
}

type edge struct {
	node int32
	b    byte
}

// add adds text under the number which; of two equal texts the first stays.
func (t *trie) add(text string, which int32) {
	if t.edges == nil {
		t.edges = make(map[edge]int32)
		t.ends = []int32{-1}
	}
	t.first[text[0]] = true
	node := int32(0)
	for i := range len(text) {
		e := edge{node, text[i]}
		next, ok := t.edges[e]
		if !ok {
			next = int32(len(t.ends))
			t.edges[e] = next
			t.ends = append(t.ends, -1)
		}
		node = next
	}
	if t.ends[node] < 0 {
		t.ends[node] = which
	}
}

// find gives the range of the first match from s[from:] on and its number, -1 for none.
func (t *trie) find(s string, from int) (start, end int, which int32) {
	if t.edges == nil {
		return 0, 0, -1
	}
	for i := from; i < len(s); i++ {
		if !t.first[s[i]] {
			continue
		}
		which, node := int32(-1), int32(0)
		for j := i; j < len(s); j++ {
			next, ok := t.edges[edge{node, s[j]}]
			if !ok {
				break
			}
			node = next
			if t.ends[node] >= 0 {
				which, end = t.ends[node], j+1
			}
		}
		if which >= 0 {
			return i, end, which
		}
	}
	return 0, 0, -1
}
