package main

import (
	"bytes"
	"strings"
	"testing"

	"quantize/eval"
)

// The table of eval has the divergences' mean and median, and fits a terminal.
func TestEvalTable(t *testing.T) {
	t.Parallel()
	base := eval.Result{Text: "a.txt", Protocol: "GPTQ", Model: "SmolLM2-135M-Instru", Arithmetic: "bf16", Perplexity: 24.1441, TokensPerSecond: 1234, Cached: true}
	result := base
	result.Arithmetic, result.Perplexity, result.Cached = "weight-only", 25.1, false
	r := eval.Report{Result: result, Comparison: &eval.Comparison{Base: &base, KLMean: 0.04321, KLMedian: 0.00123, Top1Agreement: 0.912}}
	var out bytes.Buffer
	printReports(&out, []eval.Report{r})
	table := strings.Split(out.String(), "\n\n")[1]
	for line := range strings.Lines(table) {
		if len(strings.TrimSuffix(line, "\n")) > 100 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	for _, want := range []string{"KL mean  median", " 0.04321 0.00123 ", "(cached)"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	out.Reset()
	printReports(&out, []eval.Report{{Result: result}})
	_, alone, _ := strings.Cut(out.String(), "\n\n")
	head, row, _ := strings.Cut(alone, "\n")
	if row = strings.TrimSpace(row); len(head) != len(row) {
		t.Errorf("without a base the columns differ:\n%q\n%q", head, row)
	}
}
