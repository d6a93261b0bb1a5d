package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// evaluation has the keys of `quantize eval` that the table shows.
type evaluation struct {
	Arithmetic      string       `json:"arithmetic"`
	Window          int          `json:"window"`
	Perplexity      float64      `json:"perplexity"`
	TokensPerSecond float64      `json:"tokens_per_second"`
	Base            *evaluation  `json:"base"`
	KLMean          float64      `json:"kl_mean"`
	Top1            float64      `json:"top1_agreement"`
	Readings        []evaluation `json:"readings"`
}

// all lists the readings, vLLM's first.
func (e *evaluation) all() []evaluation {
	if len(e.Readings) > 0 {
		return e.Readings
	}
	return []evaluation{*e}
}

// results is one file of testdata/results.
type results struct {
	Name, Date, Commit, Machine, Command string
	Windows                              int
	Run                                  *job
	Eval                                 *evaluation
	Demo                                 *struct {
		job
		Quantized, Plain *evaluation
	}
}

// speed is one NAME-speed.json: the same windows by us, by transformers, by us again.
type speed struct {
	Date, Commit              string
	Ours, Again, Transformers struct {
		Windows         int
		Perplexity      float64
		TokensPerSecond float64 `json:"tokens_per_second"`
	}
}

// ours is the mean of the two runs round transformers'.
func (s *speed) ours() float64 { return (s.Ours.TokensPerSecond + s.Again.TokensPerSecond) / 2 }

// job has the keys of `quantize run` that the table shows.
type job struct {
	Recipe    string  `json:"recipe"`
	GroupSize int     `json:"group_size"`
	BytesIn   float64 `json:"bytes_in"`
	BytesOut  float64 `json:"bytes_out"`
	Seconds   float64 `json:"seconds"`
	PeakRSS   float64 `json:"peak_rss_bytes"`
}

// files are the results in the order of the table.
var files = []string{"demo.json", "smollm2.json", "qwen.json"}

const head = "| model | recipe, reading | perplexity bf16 -> quantized | ratio | KL | top-1 | size, MB | quantize: s, GB resident | tokens/s bf16: ours, transformers |\n" +
	"|---|---|---|---|---|---|---|---|---|\n"

// render gives the table and its footnotes.
func render(dir string) ([]byte, error) {
	var table, notes bytes.Buffer
	for _, name := range files {
		var r results
		found, err := readResults(filepath.Join(dir, name), &r)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		sp, err := readSpeed(filepath.Join(dir, strings.TrimSuffix(name, ".json")+"-speed.json"))
		if err != nil {
			return nil, err
		}
		r.rows(&table, sp)
		window := 0
		if e := r.first(); e != nil {
			window = e.Window
		}
		fmt.Fprintf(&notes, "%s: `%s`, %d windows of %d tokens, %s, %s, commit %s", r.Name, r.Command, r.Windows, window, r.Machine, r.Date, r.Commit)
		if sp != nil {
			fmt.Fprintf(&notes, "; speed on %d windows, where ours has bf16 perplexity %.4f and transformers %.4f (%s, commit %s)",
				sp.Ours.Windows, sp.Ours.Perplexity, sp.Transformers.Perplexity, sp.Date, sp.Commit)
		}
		notes.WriteString(".<br>\n")
	}
	if table.Len() == 0 {
		return nil, nil
	}
	lines, err := methodLines(dir)
	if err != nil {
		return nil, err
	}
	gpu, err := gpuTable(filepath.Join(dir, "gpu.json"), false)
	if err != nil {
		return nil, err
	}
	if len(gpu) > 0 {
		gpu = append([]byte("\n"), gpu...)
	}
	return slices.Concat([]byte(head), table.Bytes(), []byte("\n"), notes.Bytes(), lines, gpu), nil
}

// readSpeed gives nil for a model without a speed file.
func readSpeed(path string) (*speed, error) {
	var s speed
	if found, err := readResults(path, &s); !found || err != nil {
		return nil, err
	}
	return &s, nil
}

func (r *results) first() *evaluation {
	if r.Demo != nil {
		return r.Demo.Quantized
	}
	return r.Eval
}

func (r *results) rows(w *bytes.Buffer, sp *speed) {
	if d := r.Demo; d != nil {
		for _, e := range d.Quantized.all() {
			row(w, r.Name, d.Recipe, &d.job, e, nil)
		}
		for _, e := range d.Plain.all() {
			row(w, r.Name, "rtn-plain", nil, e, nil)
		}
		return
	}
	for _, e := range r.Eval.all() {
		row(w, r.Name, r.Run.Recipe, r.Run, e, sp)
	}
}

// scheme names a reading with the scheme whose configuration it belongs to.
func scheme(arithmetic string) string {
	if arithmetic == "weight-only" {
		return "W4A16"
	}
	return "W4A8 " + arithmetic
}

func row(w *bytes.Buffer, name, recipe string, j *job, e evaluation, sp *speed) {
	size, cost, tokens := "", "", ""
	if j != nil {
		size = fmt.Sprintf("%.1f -> %.1f", j.BytesIn/1e6, j.BytesOut/1e6)
		cost = fmt.Sprintf("%.0f, %.2f", j.Seconds, j.PeakRSS/1e9)
	}
	base := e.Base
	if base == nil {
		base = &e
	}
	if sp != nil {
		tokens = fmt.Sprintf("%.0f, %.0f (%.2fx)", sp.ours(), sp.Transformers.TokensPerSecond, sp.ours()/sp.Transformers.TokensPerSecond)
	}
	fmt.Fprintf(w, "| %s | %s, %s | %.4f -> %.4f | %.4f | %.4f | %.3f | %s | %s | %s |\n", name, recipe, scheme(e.Arithmetic),
		base.Perplexity, e.Perplexity, e.Perplexity/base.Perplexity, e.KLMean, e.Top1, size, cost, tokens)
}
