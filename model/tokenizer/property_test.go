package tokenizer

import (
	"slices"
	"strings"
	"testing"

	"github.com/dlclark/regexp2/v2"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"
)

// parts are what the patterns decide on; random text is made of them.
var parts = []string{
	"a", "Z", "é", "ж", "漢", "ſ", "K", "'", "'s", "'LL", "'Re", "'v", "'t", "’", "0", "12", "٣", "½", "一",
	" ", "  ", "\t", "\n", "\r", "\r\n", "\u00a0", "\u3000", "\u2028", "\u0085", "\v",
	".", ",!", "-", "_", "=", "😀", "👩\u200d👧", "\u0301", "\u0323", "\x00", "\x7f", "\ufffd", "\ue000", "▁", "<s>", "<",
	"the", "ing", "<|endoftext|>", "<|im_start|>",
}

// texts draws text made of parts and of any other characters.
func texts() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		list := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(parts), rapid.StringN(1, 3, -1)), 0, 40).Draw(t, "parts")
		return strings.ToValidUTF8(strings.Join(list, ""), "\ufffd")
	})
}

// oracle compiles a pattern for regexp2, which does not fold ſ to s.
func oracle(pattern string) *regexp2.Regexp {
	return regexp2.MustCompile(strings.Replace(pattern, "(?i:'s|", "'ſ|(?i:'s|", 1))
}

// older replaces the letters and numbers that package unicode does not know yet.
func older(s string) string {
	return strings.Map(func(r rune) rune {
		for _, x := range recent {
			if x.lo <= r && r <= x.hi {
				return 'x'
			}
		}
		return r
	}, s)
}

func scan(m scanner, s string) []string {
	var out []string
	for i := 0; i < len(s); {
		end := m.next(s, i)
		out = append(out, s[i:end])
		i = end
	}
	return out
}

func search(t interface{ Fatal(...any) }, re *regexp2.Regexp, s string) []string {
	found, err := re.FindAllStringIndex(s, -1)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range found {
		out = append(out, s[f[0]:f[1]])
	}
	return out
}

func TestScannersEqualTheirPatterns(t *testing.T) {
	t.Parallel()
	for pattern, m := range scanners {
		re := oracle(pattern)
		rapid.Check(t, func(t *rapid.T) {
			s := older(texts().Draw(t, "text"))
			if d := cmp.Diff(search(t, re, s), scan(m, s)); d != "" {
				t.Fatalf("%s\non %q (-regexp2 +scanner)\n%s", pattern, s, d)
			}
		})
	}
}

func FuzzScannersEqualTheirPatterns(f *testing.F) {
	for _, p := range parts {
		f.Add(p + " " + p + p)
	}
	res := map[string]*regexp2.Regexp{}
	for pattern := range scanners {
		res[pattern] = oracle(pattern)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = older(valid(s))
		for pattern, re := range res {
			if d := cmp.Diff(search(t, re, s), scan(scanners[pattern], s)); d != "" {
				t.Fatalf("%s\non %q (-regexp2 +scanner)\n%s", pattern, s, d)
			}
		}
	})
}

// The reference normalizes like package norm, but for long runs of marks.
func TestComposeLongEqualsNorm(t *testing.T) {
	t.Parallel()
	marks := []rune("\u0300\u0301\u0307\u0308\u0323\u0327\u0338\u0345\u0344\u1161\u11a8aeouA가\u1100\u0958Å漢\u212b ")
	rapid.Check(t, func(t *rapid.T) {
		rs := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(marks), rapid.Rune()), 0, 25).Draw(t, "runes")
		s := valid(string(rs))
		if got, want := composeLong(s), norm.NFC.String(s); got != want {
			t.Fatalf("%+q: %+q, want %+q", s, got, want)
		}
	})
}

func TestNFCOfLongRunOfMarksInsertsNothing(t *testing.T) {
	t.Parallel()
	in := "Ae\u0301 o\u0308e" + strings.Repeat("\u0323\u0301", 40) + "a\u0300\u034f"
	want := "Aé ö\u1eb9" + strings.Repeat("\u0323", 39) + strings.Repeat("\u0301", 40) + "à\u034f"
	if got, err := (nfc{}).normalize(in); err != nil || got != want {
		t.Errorf("got %+q, %v; want %+q", got, err, want)
	}
}

// The scan for the best pair, the heap, and cutting must give the same ids.
func TestMergesAgree(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"gpt2", "llama2", "mistral", "metaspace"} {
		tok := load(t, "testdata/kinds/"+kind)
		whole := *tok.model
		whole.cuts = nil
		rapid.Check(t, func(t *rapid.T) {
			s := strings.ReplaceAll(texts().Draw(t, "text"), " ", "▁")
			e, w := newEncoder(tok), &encoder{model: &whole, cache: map[string]cached{}}
			sym, err := tok.model.symbols(nil, s)
			if err != nil {
				t.Fatal(err)
			}
			byScan := slices.Clone(w.mergeScan(slices.Clone(sym)))
			byHeap := w.mergeHeap(slices.Clone(sym))
			if !slices.Equal(byScan, byHeap) {
				t.Fatalf("%s: %q: scan %v, heap %v", kind, s, byScan, byHeap)
			}
			var byCuts []int32
			for i, end := 0, 0; i < len(s); i = end {
				if end = len(s); tok.model.cuts != nil {
					end = tok.model.cuts.next(s, i)
				}
				if byCuts, err = e.part(byCuts, s[i:end]); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(byScan, byCuts) {
				t.Fatalf("%s: %q: whole %v, cut %v", kind, s, byScan, byCuts)
			}
		})
	}
}

func TestSentencePieceKindsAreCut(t *testing.T) {
	t.Parallel()
	m := load(t, "testdata/kinds/llama2").model
	if m.cuts == nil {
		t.Fatal("no cuts, so that documents are merged whole")
	}
	if end := m.cuts.next("▁the▁man", 0); end != len("▁the") {
		t.Errorf("first part ends at %d", end)
	}
	if m := load(t, "testdata/kinds/metaspace").model; m.cuts != nil {
		t.Error("cut although a run of unknown characters fuses")
	}
}

// A megabyte of one letter has no place to cut. Quadratic merging would take hours.
func TestLongWordIsNotQuadratic(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"gpt2", "llama2"} {
		tok := load(t, "testdata/kinds/"+kind)
		text := strings.Repeat("tion", 1<<18)
		ids, err := tok.Encode(text, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Decode(ids); got != text {
			t.Errorf("%s: %d ids decode to other text", kind, len(ids))
		}
	}
}

func TestByteLevelDecodeUndoesEncode(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"gpt2", "llama3", "smollm2", "marks"} {
		tok := load(t, "testdata/kinds/"+kind)
		rapid.Check(t, func(t *rapid.T) { undone(t, tok, texts().Draw(t, "text")) })
	}
}

func undone(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, tok *Tokenizer, s string,
) {
	ids, err := tok.Encode(s, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Decode(ids); got != s {
		t.Fatalf("%q comes back as %q", s, got)
	}
	for _, id := range ids {
		if id < 0 || int(id) >= tok.VocabSize() {
			t.Fatalf("id %d outside the vocabulary of %d", id, tok.VocabSize())
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range readJSON[[]sample](f, "testdata/samples.json") {
		f.Add(s.Text)
	}
	f.Add("\xff\xc3\xe2\x82")
	byteLevel := []*Tokenizer{load(f, "testdata/kinds/gpt2"), load(f, "testdata/kinds/llama3"), load(f, "testdata/kinds/smollm2")}
	others := []*Tokenizer{
		load(f, "testdata/kinds/llama2"), load(f, "testdata/kinds/mistral"), load(f, "testdata/kinds/metaspace"),
		load(f, "testdata/kinds/qwen2"), load(f, "testdata/kinds/added"), load(f, "testdata/kinds/splits"),
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, tok := range byteLevel {
			undone(t, tok, valid(s))
		}
		for _, tok := range others {
			ids, err := tok.Encode(s, true)
			if err != nil {
				t.Fatal(err)
			}
			tok.Decode(ids)
		}
	})
}
