package tokenizer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"quantize/internal/alloc"
	"quantize/internal/fault"

	"github.com/google/go-cmp/cmp"
)

// tiny is a tokenizer.json of three tokens; tests replace parts of it.
const tiny = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],` +
	`"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,` +
	`"model":{"type":"BPE","dropout":null,"unk_token":null,"fuse_unk":false,"byte_fallback":false,` +
	`"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`

func TestRefusesWithAName(t *testing.T) {
	t.Parallel()
	addedX := `{"id":3,"content":"<x>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}`
	for _, c := range []struct {
		name, old, new string
		want           error
		says           string
	}{
		{"unigram", `"type":"BPE","dropout":null`, `"type":"Unigram","unk_id":0`, ErrUnsupported, `"Unigram"`},
		{"wordpiece", `"type":"BPE"`, `"type":"WordPiece"`, ErrUnsupported, `"WordPiece"`},
		{"unigram's vocabulary", `{"a":0,"b":1,"ab":2},"merges":["a b"]`, `[["a",0]]`, ErrInvalid, "vocab"},
		{"dropout", `"dropout":null`, `"dropout":0.1`, ErrUnsupported, "dropout 0.1"},
		{"subword prefix", `"dropout":null`, `"continuing_subword_prefix":"##"`, ErrUnsupported, "continuing_subword_prefix"},
		{"word suffix", `"dropout":null`, `"end_of_word_suffix":"</w>"`, ErrUnsupported, "end_of_word_suffix"},
		{"unknown model key", `"dropout":null`, `"shiny":1`, ErrUnsupported, `"shiny"`},
		{"unknown top key", `"padding":null`, `"shiny":null`, ErrUnsupported, `"shiny"`},
		{"version", `"1.0"`, `"2.0"`, ErrUnsupported, `"2.0"`},
		{"normalizer", `"normalizer":null`, `"normalizer":{"type":"Lowercase"}`, ErrUnsupported, `"Lowercase"`},
		{"nested normalizer", `"normalizer":null`, `"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"}]}`, ErrUnsupported, `"NFKC"`},
		{"normalizer option", `"normalizer":null`, `"normalizer":{"type":"NFC","form":3}`, ErrUnsupported, `"form"`},
		{"null in a sequence", `"normalizer":null`, `"normalizer":{"type":"Sequence","normalizers":[null]}`, ErrInvalid, "null"},
		{
			"deep nesting", `"normalizer":null`,
			`"normalizer":` + strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + strings.Repeat(`]}`, 20), ErrUnsupported, "nested",
		},
		{"pre-tokenizer", `"pre_tokenizer":null`, `"pre_tokenizer":{"type":"BertPreTokenizer"}`, ErrUnsupported, `"BertPreTokenizer"`},
		{
			"bytes before characters", `"pre_tokenizer":null`,
			`"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}`, ErrUnsupported, "ByteLevel before",
		},
		{
			"split behavior", `"pre_tokenizer":null`,
			`"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Sideways","invert":false}`, ErrUnsupported, `"Sideways"`,
		},
		{
			"pattern", `"pre_tokenizer":null`,
			`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated","invert":false}`, ErrUnsupported, `"(a"`,
		},
		{
			"empty pattern", `"pre_tokenizer":null`,
			`"pre_tokenizer":{"type":"Split","pattern":{"String":""},"behavior":"Isolated","invert":false}`, ErrInvalid, "empty",
		},
		{"metaspace", `"pre_tokenizer":null`, `"pre_tokenizer":{"type":"Metaspace","replacement":"__"}`, ErrInvalid, `"__"`},
		{
			"prepend scheme", `"pre_tokenizer":null`,
			`"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"last"}`, ErrUnsupported, `"last"`,
		},
		{"decoder", `"decoder":null`, `"decoder":{"type":"CTC"}`, ErrUnsupported, `"CTC"`},
		{"post-processor", `"post_processor":null`, `"post_processor":{"type":"BertProcessing"}`, ErrUnsupported, `"BertProcessing"`},
		{
			"template's token", `"post_processor":null`,
			`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}}],"pair":[],"special_tokens":{}}`, ErrInvalid, `"<s>"`,
		},
		{
			"template's id", `"post_processor":null`,
			`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],` +
				`"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[99],"tokens":["<s>"]}}}`, ErrInvalid, "99",
		},
		{
			"template without text", `"post_processor":null`,
			`"post_processor":{"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}}`, ErrInvalid, "sequence A",
		},
		{"huge id", `"ab":2`, `"ab":2147483647`, ErrInvalid, "2147483647"},
		{"negative id", `"ab":2`, `"ab":-1`, ErrInvalid, "-1"},
		{"id twice", `"ab":2`, `"ab":1`, ErrInvalid, "id 1 twice"},
		{"merge without its join", `"a b"`, `"b a"`, ErrInvalid, "model.merges[0]"},
		{"merge of three", `"a b"`, `"a b a"`, ErrInvalid, `"a b a"`},
		{"pair of three", `"a b"`, `["a","b","a"]`, ErrInvalid, "two tokens"},
		{"no merges", `,"merges":["a b"]`, ``, ErrInvalid, "no merges"},
		{"merges null", `["a b"]`, `null`, ErrInvalid, "no merges"},
		{"no vocabulary", `"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]`, `"merges":[]`, ErrInvalid, "no vocab"},
		{"vocabulary null", `{"a":0,"b":1,"ab":2},"merges":["a b"]`, `null,"merges":[]`, ErrInvalid, "no vocab"},
		{"unknown token not there", `"unk_token":null`, `"unk_token":"<unk>"`, ErrInvalid, `"<unk>"`},
		{"added id", `"added_tokens":[]`, `"added_tokens":[` + strings.Replace(addedX, "3", "7", 1) + `]`, ErrInvalid, "id 7"},
		{"added twice", `"added_tokens":[]`, `"added_tokens":[` + addedX + `,` + addedX + `]`, ErrInvalid, `"<x>"`},
		{"no model", `"model":{`, `"model":null,"x":{`, ErrUnsupported, `"x"`},
		{"more behind", `"merges":["a b"]}}`, `"merges":["a b"]}} {}`, ErrInvalid, "behind"},
		{"truncated", `"merges":["a b"]}}`, `"merges":[`, ErrInvalid, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := strings.Replace(tiny, c.old, c.new, 1)
			if file == tiny {
				t.Fatal("nothing replaced")
			}
			_, err := Parse([]byte(file), nil)
			var f *fault.Error
			if !errors.Is(err, c.want) || !errors.As(err, &f) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %s", err, c.want, c.says)
			}
		})
	}
}

func TestFirstFilesHadNoModelType(t *testing.T) {
	t.Parallel()
	tok, err := Parse([]byte(strings.Replace(tiny, `"type":"BPE",`, "", 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tok.Encode("abab", false)
	if d := cmp.Diff([]int32{2, 2}, got); err != nil || d != "" {
		t.Error(err, d)
	}
}

func TestNoMergesToApply(t *testing.T) {
	t.Parallel()
	tok, err := Parse([]byte(strings.Replace(tiny, `["a b"]`, `[]`, 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tok.Encode("ab", false)
	if d := cmp.Diff([]int32{0, 1}, got); err != nil || d != "" {
		t.Error(err, d)
	}
}

func TestCharacterWithoutTokenIsAnError(t *testing.T) {
	t.Parallel()
	tok, err := Parse([]byte(tiny), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode("aéb", false); !errors.Is(err, ErrText) || !strings.Contains(err.Error(), `"é"`) {
		t.Errorf("got %v", err)
	}
}

// A pattern of the file may not hang: regexp2 backtracks.
func TestRunawayPatternTimesOut(t *testing.T) {
	t.Parallel()
	m, err := compileRegex(`(x+x+)+y`, "pattern")
	if err != nil {
		t.Fatal(err)
	}
	re := m.(regex)
	re.MatchTimeout /= 50
	if err := re.matches(strings.Repeat("x", 5000), func(int, int) {}); !errors.Is(err, ErrText) {
		t.Errorf("got %v", err)
	}
}

func TestConfigAddsBOSWhereThereIsNoPostProcessor(t *testing.T) {
	t.Parallel()
	processed := strings.Replace(tiny, `"post_processor":null`, `"post_processor":{"type":"ByteLevel"}`, 1)
	for _, c := range []struct {
		name, file, config string
		want               []int32
	}{
		{"both", tiny, `{"add_bos_token":true,"add_eos_token":true,"bos_token":"b","eos_token":{"content":"a"}}`, []int32{1, 2, 0}},
		{"not asked", tiny, `{"add_bos_token":false,"bos_token":"b"}`, []int32{2}},
		{"no token", tiny, `{"add_bos_token":true,"bos_token":null}`, []int32{2}},
		{"post-processor decides", processed, `{"add_bos_token":true,"bos_token":"b"}`, []int32{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tok, err := Parse([]byte(c.file), []byte(c.config))
			if err != nil {
				t.Fatal(err)
			}
			got, err := tok.Encode("ab", true)
			if d := cmp.Diff(c.want, got); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}
	if _, err := Parse([]byte(tiny), []byte(`{"add_bos_token":true,"bos_token":"<s>"}`)); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown BOS: got %v", err)
	}
}

func TestLoadNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(path, []byte(`{"model":{"type":"Unigram"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// Invalid UTF-8 counts as Python's errors="replace" has it.
func TestInvalidTextBecomesReplacementCharacters(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\xffb":               "a\ufffdb",
		"\xe2\x82":             "\ufffd",
		"\xe2\x82\xe2\x82\xac": "\ufffd€",
		"\xf0\x9f\x98x":        "\ufffdx",
		"\xed\xa0\x80":         "\ufffd\ufffd\ufffd",
		"\xf4\x90\x80\x80":     "\ufffd\ufffd\ufffd\ufffd",
		"\xc0\xaf":             "\ufffd\ufffd",
		"\xe0\x80":             "\ufffd\ufffd",
		"\xf0\x80\x80":         "\ufffd\ufffd\ufffd",
		"é\ufffd":              "é\ufffd",
	} {
		if got := valid(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestEncodeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	tok := load(t, "testdata/kinds/qwen2")
	samples := readJSON[[]sample](t, "testdata/samples.json")
	want := readJSON[[]expected](t, "testdata/kinds/qwen2/ids.json")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range samples {
				i = (i + 5*w) % len(samples)
				if got, err := tok.Encode(samples[i].Text, true); err != nil || !cmp.Equal(got, want[i].IDs) {
					t.Errorf("%s: other ids with 8 workers (%v)", samples[i].Name, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(tiny), []byte(`{"add_bos_token":true,"bos_token":"a"}`))
	for _, part := range []string{
		`"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","use_regex":true}]}`,
		`"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\s+|b*"},"behavior":"MergedWithNext","invert":true}`,
		`"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}`,
	} {
		f.Add([]byte(strings.Replace(tiny, `"pre_tokenizer":null`, part, 1)), []byte(nil))
	}
	for _, part := range []string{
		`"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Prepend","prepend":"a"},{"type":"Replace","pattern":{"String":"b"},"content":"a"}]}`,
		`"normalizer":{"type":"Replace","pattern":{"Regex":"b*"},"content":"a"}`,
	} {
		f.Add([]byte(strings.Replace(tiny, `"normalizer":null`, part, 1)), []byte(nil))
	}
	f.Add([]byte(strings.Replace(tiny, `"decoder":null`,
		`"decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}`, 1)), []byte(nil))
	f.Add([]byte(strings.Replace(tiny, `"added_tokens":[]`,
		`"added_tokens":[{"id":3,"content":"<s>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}]`, 1)), []byte(nil))
	f.Fuzz(func(t *testing.T, file, config []byte) {
		var tok *Tokenizer
		var err error
		if over := alloc.Check(len(file)+len(config), func() { tok, err = Parse(file, config) }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if size := tok.VocabSize(); size > 4*len(file)+8192 {
			t.Fatalf("%d ids from a file of %d bytes", size, len(file))
		}
		ids, err := tok.Encode("ab <s>é\n  12", true)
		if err != nil && !errors.Is(err, ErrText) {
			t.Fatalf("untyped error %v", err)
		}
		tok.Decode(ids)
	})
}
