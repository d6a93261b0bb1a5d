package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample is a text of testdata/samples.json.
type sample struct{ Name, Text string }

// expected is what Hugging Face tokenizers made of it; Decoded is nil where
// decoding gives the text back.
type expected struct {
	IDs     []int32
	Decoded *string
}

func readJSON[T any](t testing.TB, path string) T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// folders lists the directories of dir that hold a tokenizer.json.
func folders(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "tokenizer.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tokenizers in %s: %v", dir, err)
	}
	for i, f := range files {
		files[i] = filepath.Dir(f)
	}
	return files
}

func load(t testing.TB, dir string) *Tokenizer {
	t.Helper()
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// check compares ids and decoded text with the reference's, twice: the second
// time the words come from the cache.
func check(t *testing.T, tok *Tokenizer, samples []sample, want []expected) {
	t.Helper()
	if len(samples) != len(want) {
		t.Fatalf("%d samples but %d expected results", len(samples), len(want))
	}
	for range 2 {
		for i, s := range samples {
			got, err := tok.Encode(s.Text, true)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				continue
			}
			if d := cmp.Diff(want[i].IDs, got); d != "" {
				t.Errorf("%s: ids differ from the reference (-want +got)\n%s", s.Name, d)
			}
			text := s.Text
			if want[i].Decoded != nil {
				text = *want[i].Decoded
			}
			if d := cmp.Diff(text, tok.Decode(want[i].IDs)); d != "" {
				t.Errorf("%s: decoded text differs (-want +got)\n%s", s.Name, d)
			}
		}
	}
}

func TestEqualsReferenceOnSmallTokenizers(t *testing.T) {
	t.Parallel()
	samples := readJSON[[]sample](t, "testdata/samples.json")
	for _, dir := range folders(t, "testdata/kinds") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			check(t, load(t, dir), samples, readJSON[[]expected](t, filepath.Join(dir, "ids.json")))
		})
	}
}
