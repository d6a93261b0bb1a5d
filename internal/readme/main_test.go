package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTableIsFresh(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := render(filepath.Join(root, "testdata", "results"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := replace(text, table)
	if err != nil {
		t.Fatal(err)
	}
	if string(fresh) != string(text) {
		t.Error("README.md does not show testdata/results/*.json; run `make readme`")
	}
}

func TestRowsSayWhatTheFilesSay(t *testing.T) {
	dir := t.TempDir()
	const file = `{"name":"m","date":"2026-01-02","commit":"abc","machine":"x, 2 cores","command":"c","windows":3,
	 "run":{"recipe":"rtn","bytes_in":2e6,"bytes_out":1e6,"seconds":7,"peak_rss_bytes":5e8},
	 "eval":{"arithmetic":"lut","window":8,"perplexity":12,"kl_mean":0.25,"top1_agreement":0.5,"base":{"perplexity":10},"readings":null}}`
	const times = `{"date":"2026-01-02","commit":"abc","ours":{"windows":3,"perplexity":10,"tokens_per_second":290},
	 "again":{"tokens_per_second":310},"transformers":{"perplexity":10.001,"tokens_per_second":200}}`
	if err := os.WriteFile(filepath.Join(dir, "smollm2.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "smollm2-speed.json"), []byte(times), 0o644); err != nil {
		t.Fatal(err)
	}
	table, err := render(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := "| m | rtn, W4A8 lut | 10.0000 -> 12.0000 | 1.2000 | 0.2500 | 0.500 | 2.0 -> 1.0 | 7, 0.50 | 300, 200 (1.50x) |\n"
	if !strings.Contains(string(table), want) {
		t.Errorf("table\n%s\nwants the row\n%s", table, want)
	}
	if _, err := replace([]byte("no markers"), table); err == nil {
		t.Error("a text without markers was accepted")
	}
}

func TestMethodLines(t *testing.T) {
	dir := t.TempDir()
	const file = `{"model":"m","windows":3,"methods":[{"name":"a","readings":[{"ln_ppl_ratio":0},{"ln_ppl_ratio":9}]},{"name":"b"},{"name":"c","readings":[{"ln_ppl_ratio":0.1}]}]}`
	if err := os.WriteFile(filepath.Join(dir, "methods-m.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	lines, err := methodLines(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := "perplexity / bf16: m, 3 windows: a 1.000, c 1.105.<br>\n"; !strings.HasSuffix(string(lines), want) {
		t.Errorf("%s, want the end %s", lines, want)
	}
}

// A row that was measured apart says so below its table, and no other does.
func TestMethodsMeasuredApart(t *testing.T) {
	dir := t.TempDir()
	const file = `{"model":"m","machine":"one","commit":"c1","methods":[{"name":"a","readings":[{}]},{"name":"b","readings":[{}],"measured":{"machine":"two","date":"d","commit":"c2"}}]}`
	if err := os.WriteFile(filepath.Join(dir, "methods-m.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	table, err := methods(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := "\n\nRow b: two, d, commit c2.<br>\n\n"; !strings.HasSuffix(string(table), want) || strings.Contains(string(table), "Row a") {
		t.Errorf("%s, want the end %q", table, want)
	}
}
