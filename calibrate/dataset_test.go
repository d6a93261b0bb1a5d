package calibrate

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"quantize/internal/fault"

	"github.com/google/go-cmp/cmp"
)

// letters is a tokenizer of one token a byte, with 1 in front of a document.
type letters struct{}

func (letters) Encode(text string, special bool) ([]int32, error) {
	if strings.Contains(text, "!") {
		return nil, errors.New("no token for it")
	}
	var ids []int32
	if special {
		ids = append(ids, 1)
	}
	for _, b := range []byte(text) {
		ids = append(ids, int32(b))
	}
	return ids, nil
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokens(t *testing.T) {
	t.Parallel()
	text := write(t, "a.txt", "{\"text\": \n")
	lines := write(t, "b.jsonl", "{\"text\": \"ab\", \"id\": 3}\n\n  {\"text\":\"\\u0063\"}\r\n{\"text\":\"\"}")
	long := write(t, "c.jsonl", `{"text":"`+strings.Repeat("z", 1<<20)+`"}`)
	for name, c := range map[string]struct {
		limit int
		files []string
		want  []int32
	}{
		"a text file is one document":        {0, []string{text}, []int32{1, '{', '"', 't', 'e', 'x', 't', '"', ':', ' ', '\n'}},
		"every line is a document":           {0, []string{lines}, []int32{1, 'a', 'b', 1, 'c', 1}},
		"the limit ends after a document":    {4, []string{lines, text}, []int32{1, 'a', 'b', 1, 'c'}},
		"a limit that is reached at its end": {3, []string{lines, text}, []int32{1, 'a', 'b'}},
	} {
		got, err := Tokens(letters{}, c.limit, c.files...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for name, want := range map[string][]int32{"\ufeffab": {1, 'a', 'b'}, "\ufeff": {1}, "a\ufeff": {1, 'a', 0xef, 0xbb, 0xbf}} {
		if got, err := Tokens(letters{}, 0, write(t, "d.txt", name)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, error %v", name, got, err)
		}
	}
	marked := write(t, "d.jsonl", "\ufeff{\"text\":\"ab\"}\n{\"text\":\"c\"}\n")
	if got, err := Tokens(letters{}, 0, marked); err != nil || !slices.Equal(got, []int32{1, 'a', 'b', 1, 'c'}) {
		t.Errorf("JSONL behind a byte order mark: %v, error %v", got, err)
	}
	if got, err := Tokens(letters{}, 0, long); err != nil || len(got) != 1<<20+1 {
		t.Errorf("a line of a megabyte: %d tokens, error %v", len(got), err)
	}
}

// TestUnreadable: the file is named once, and there is a way out.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "texts.jsonl")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, found := range map[string]string{dir: "a directory", folder: "a directory", filepath.Join(dir, "absent.txt"): ""} {
		_, err := Tokens(letters{}, 0, path)
		var f *fault.Error
		if !errors.Is(err, ErrInvalid) || !errors.As(err, &f) || f.Where != path || f.Found != found || f.Hint == "" || strings.Count(err.Error(), path) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTokensRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, content, in string
	}{
		"no JSON":            {"a.jsonl", "{\"text\":\"a\"}\nplain\n", "a.jsonl:2"},
		"no field":           {"a.jsonl", "{\"content\":\"a\"}", "\"text\""},
		"a number":           {"a.jsonl", "{\"text\":3}", "a.jsonl:1"},
		"null":               {"a.jsonl", "{\"text\":null}", "a.jsonl:1"},
		"an array":           {"a.jsonl", "[\"text\"]", "a.jsonl:1"},
		"bytes in a line":    {"a.jsonl", "{\"text\":\"\xff\"}", "a.jsonl:1"},
		"bytes in a text":    {"a.txt", "\xc3(", "UTF-8"},
		"an empty JSONL":     {"a.jsonl", "\n\n", "no tokens"},
		"a line without end": {"a.jsonl", "{\"text\":\"a", "a.jsonl:1"},
	} {
		_, err := Tokens(letters{}, 0, write(t, c.file, c.content))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.in) {
			t.Errorf("%s: error %v, want ErrInvalid naming %q", name, err, c.in)
		}
	}
	if _, err := Tokens(letters{}, 0, filepath.Join(t.TempDir(), "absent.txt")); !errors.Is(err, ErrInvalid) {
		t.Errorf("an absent file: error %v", err)
	}
	if _, err := Tokens(letters{}, 0, write(t, "a.txt", "a!")); err == nil || !strings.Contains(err.Error(), "a.txt") {
		t.Errorf("a tokenizer's error: %v, want the file in it", err)
	}
}
