package tokenizer

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// published gives the directory that testdata/fetch.sh filled; `make
// tokenizer-parity` sets the variable and makes mixed.txt and mixed.ids there.
func published(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("QUANTIZE_TOKENIZERS")
	if dir == "" {
		t.Skip("QUANTIZE_TOKENIZERS names no directory of published tokenizers")
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestEqualsReferenceOnPublishedTokenizers(t *testing.T) {
	root := published(t)
	samples := readJSON[[]sample](t, "testdata/samples.json")
	text, err := os.ReadFile(filepath.Join(root, "mixed.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range folders(t, root) {
		kind := filepath.Base(dir)
		t.Run(kind, func(t *testing.T) {
			started := time.Now()
			tok := load(t, dir)
			t.Logf("loaded in %v", time.Since(started).Round(time.Millisecond))
			if golden := "testdata/real/" + kind + ".json"; exists(golden) {
				check(t, tok, samples, readJSON[[]expected](t, golden))
			} else {
				t.Logf("%s is not one of the published kinds: only the mixed text is compared", kind)
			}

			raw, err := os.ReadFile(filepath.Join(dir, "mixed.ids"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := tok.Encode(string(text), true)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(raw)/4 {
				t.Errorf("%d ids, the reference makes %d", len(got), len(raw)/4)
			}
			for i, id := range got {
				if i >= len(raw)/4 {
					break
				}
				if want := int32(binary.LittleEndian.Uint32(raw[4*i:])); id != want {
					t.Fatalf("id %d of the mixed text is %d (%q), the reference makes %d (%q); before it %q",
						i, id, tok.Decode(got[i:i+1]), want, tok.Decode([]int32{want}), tok.Decode(got[max(0, i-20):i]))
				}
			}
			t.Logf("%d ids equal on %d bytes", len(got), len(text))
		})
	}
}

// The GPTQ protocol's text has a known number of GPT-2 tokens.
func TestGPT2CountsTokensOfWikitext(t *testing.T) {
	root := published(t)
	path := os.Getenv("QUANTIZE_WIKITEXT")
	if path == "" {
		t.Skip("QUANTIZE_WIKITEXT does not name the WikiText-2 test text")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := load(t, filepath.Join(root, "gpt2")).Encode(string(text), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != 287_644 {
		t.Errorf("%d tokens, the protocol's count is 287644", len(ids))
	}
}

// BenchmarkEncodePublished times each published tokenizer on the mixed
// megabyte, without and with a cache filled by earlier calls.
func BenchmarkEncodePublished(b *testing.B) {
	root := published(b)
	text, err := os.ReadFile(filepath.Join(root, "mixed.txt"))
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range folders(b, root) {
		tok := load(b, dir)
		for _, cache := range []string{"cold", "warm"} {
			b.Run(filepath.Base(dir)+"/"+cache, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					if cache == "cold" {
						tok.encoders = sync.Pool{New: tok.encoders.New}
					}
					if _, err := tok.Encode(string(text), false); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkLoadPublished times Parse.
func BenchmarkLoadPublished(b *testing.B) {
	for _, dir := range folders(b, published(b)) {
		data, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(filepath.Base(dir), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(data, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
