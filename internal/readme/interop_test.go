package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInteropRowsSayWhatTheFileSays(t *testing.T) {
	dir := t.TempDir()
	if table, err := interop(dir); err != nil || table != nil {
		t.Errorf("without a file: %q, %v", table, err)
	}
	const file = `{"date":"2026-01-02","commit":"abc","machine":"x, 2 cores","command":"c","perplexity_limit":0.005,"cases":[
	 {"model":"m","format":"GPTQ","recipe":"rtn","config":"config.json","reading":"weight-only",
	  "versions":{"torch":"2","transformers":"5","gptqmodel":"7"},"loading":{"missing_keys":1,"unexpected_keys":2,"mismatched_keys":3},
	  "linears":21,"worst_linear":3e-7,"cosine":0.75,"cosine_bound":0.5,"cosine_itself":[0.875,1],"windows":5,"window":512,
	  "perplexity_transformers":10,"perplexity_quantize":10.01,"perplexity_ratio":1.001}]}`
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "interop.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(file)
	table, err := interop(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| m | rtn | GPTQ | `config.json`, weight-only | transformers 5, gptqmodel 7, torch 2 | 1, 2, 3 | 21, 3.0e-07 | 2.5e-01 (5.0e-01; 1.2e-01) | 10.0000, 10.0100 | 1.001000 |\n",
		"perplexity of 5 windows of 512 tokens, at most 0.5 % apart; x, 2 cores, 2026-01-02, commit abc.\n",
	} {
		if !strings.Contains(string(table), want) {
			t.Errorf("table\n%s\nwants\n%s", table, want)
		}
	}
	write(`{"cases":[]}`)
	if _, err := interop(dir); err == nil {
		t.Error("a file without cases was accepted")
	}
}

func TestInteropPageIsFresh(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "interop.md"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := allInterop(filepath.Join(root, "testdata", "results"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := replace(text, table)
	if err != nil {
		t.Fatal(err)
	}
	if string(fresh) != string(text) {
		t.Error("docs/interop.md does not show testdata/results/interop.json and vllm.json; run `make readme`")
	}
}
