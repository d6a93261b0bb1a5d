package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"quantize/eval"
)

// Each checkpoint gets its own readings of each text, whatever their number.
func TestReportsOfACheckpoint(t *testing.T) {
	t.Parallel()
	m := &measurement{candidates: make([]eval.Candidate, 3), first: []int{0, 2}}
	named := func(name string) eval.Report { return eval.Report{Result: eval.Result{Model: name}} }
	reports := [][]eval.Report{{named("a"), named("a"), named("b")}, {named("a"), named("a"), named("b")}}
	a, b := newEvalResult(m.of(0, reports)), newEvalResult(m.of(1, reports))
	if len(a.all()) != 4 || len(a.Texts) != 2 || len(b.all()) != 2 || b.Readings != nil {
		t.Fatalf("%+v, %+v", a, b)
	}
	for name, r := range map[string]*evalResult{"a": a, "b": b} {
		for _, report := range r.all() {
			if report.Model != name {
				t.Errorf("%s has a report of %s", name, report.Model)
			}
		}
	}
}

// A byte order mark is no part of a text.
func TestTextBehindAByteOrderMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	plain, marked := filepath.Join(dir, "plain.txt"), filepath.Join(dir, "marked.txt")
	for path, text := range map[string]string{plain: "It was the best of times.", marked: "\ufeffIt was the best of times."} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	texts, err := readTexts(filepath.Join(dir, "base"), []string{plain, marked})
	if err != nil || len(texts[0].Tokens) == 0 || !slices.Equal(texts[0].Tokens, texts[1].Tokens) || texts[0].BOS != texts[1].BOS {
		t.Errorf("%v, %+v", err, texts)
	}
}
