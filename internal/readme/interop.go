package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
)

// interopResults is testdata/results/interop.json, written by testdata/interop/collect.py.
type interopResults struct {
	Date, Commit, Machine, Command string
	Limit                          float64 `json:"perplexity_limit"`
	Cases                          []interopCase
}

// interopCase is one export and one of its config files in transformers.
type interopCase struct {
	Model, Format, Recipe, Config, Reading string
	Versions                               map[string]string // by package
	Loading                                map[string]int    // what transformers reported, in numbers
	Linears                                int
	Worst                                  float64 `json:"worst_linear"`
	Cosine                                 float64
	Bound                                  float64    `json:"cosine_bound"`
	Itself                                 [2]float64 `json:"cosine_itself"` // least and largest
	Windows, Window                        int
	Transformers                           float64 `json:"perplexity_transformers"`
	Quantize                               float64 `json:"perplexity_quantize"`
	Ratio                                  float64 `json:"perplexity_ratio"`
}

const interopHead = "| model | recipe | format | configuration, reading | loaded by | missing, unexpected, mismatched keys | linears, worst difference | 1 - cosine of the logits (bound; transformers to itself) | perplexity: transformers, quantize | ratio |\n" +
	"|---|---|---|---|---|---|---|---|---|---|\n"

// allInterop gives the tables of docs/interop.md.
func allInterop(dir string) ([]byte, error) {
	loaded, err := interop(dir)
	if err != nil {
		return nil, err
	}
	table, err := vllm(dir)
	return append(loaded, table...), err
}

// interop gives the table of what transformers loaded; it is empty where nothing was.
func interop(dir string) ([]byte, error) {
	var r interopResults
	if found, err := readResults(filepath.Join(dir, "interop.json"), &r); !found || err != nil {
		return nil, err
	}
	if len(r.Cases) == 0 {
		return nil, errors.New("interop.json: no cases")
	}
	var b bytes.Buffer
	b.WriteString(interopHead)
	for _, c := range r.Cases {
		fmt.Fprintf(&b, "| %s | %s | %s | `%s`, %s | %s | %d, %d, %d | %d, %.1e | %.1e (%.1e; %.1e) | %.4f, %.4f | %.6f |\n",
			c.Model, c.Recipe, c.Format, c.Config, c.Reading, c.loadedBy(),
			c.Loading["missing_keys"], c.Loading["unexpected_keys"], c.Loading["mismatched_keys"],
			c.Linears, c.Worst, 1-c.Cosine, 1-c.Bound, 1-c.Itself[0], c.Transformers, c.Quantize, c.Ratio)
	}
	first := r.Cases[0]
	fmt.Fprintf(&b, "\n`%s`: logits of 64 tokens, perplexity of %d windows of %d tokens, at most %.1f %% apart; %s, %s, commit %s.\n",
		r.Command, first.Windows, first.Window, 100*r.Limit, r.Machine, r.Date, r.Commit)
	return b.Bytes(), nil
}

// loadedBy names the packages and their versions, transformers first.
func (c *interopCase) loadedBy() string {
	return "transformers " + c.Versions["transformers"] + ", " + others(c.Versions, "transformers")
}
