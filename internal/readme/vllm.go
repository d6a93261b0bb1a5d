package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// vllmResults is testdata/results/vllm.json, written by testdata/interop/vllm/collect.py.
type vllmResults struct {
	Date, Commit, Command, Device string
	Versions                      map[string]string // by package
	Cases                         []vllmCase
}

// vllmCase is one export and one of its config files in vLLM.
type vllmCase struct {
	Model, Format, Recipe, Config string
	DType, Mode                   string         // of activations; eager or compiled
	Error                         string         // why vLLM refused it; the rest is empty then
	Kernels, Attention            map[string]int // modules by method, scheme and kernel; layers by backend and cache
	Bound                         float64        `json:"kl_bound"`  // 0: none
	Itself                        float64        `json:"kl_itself"` // of our forward pass to itself storing DType
	Readings                      []struct {
		Reading string
		Tokens  int
		KL      float64
		LogProb float64 `json:"log_prob"`
		Top1    float64
		Same    int `json:"greedy_same"`
		Greedy  int
		Theirs  float64 `json:"ppl_vllm"`
		Ours    float64 `json:"ppl_ours"`
	}
	Linears struct {
		Linears      int
		Worst, Equal float64
		Other        [2]float64
	}
	Scales *struct {
		Rows       int
		RowsEqual  int `json:"rows_equal"`
		Groups     int
		GroupEqual int `json:"groups_equal"`
		Bytes      int `json:"table_bytes"`
		BytesEqual int `json:"table_bytes_equal"`
	}
}

const (
	vllmNone = "\nvLLM was not run on these exports: there is no testdata/results/vllm.json.\n"
	vllmHead = "\n| model | recipe | format, configuration, activations, mode | kernels | scales bit-equal: chan, s8, table bytes | linears on the same input: number, worst difference, outputs bit-equal; by the other reading | our reading | KL (bound; ours to itself storing that type) | mean abs d log-prob | perplexity: vLLM, ours | top-1 | greedy |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)

// vllm gives the table of docs/interop.md of what vLLM loaded, or says that it was not run.
func vllm(dir string) ([]byte, error) {
	var r vllmResults
	found, err := readResults(filepath.Join(dir, "vllm.json"), &r)
	if err != nil {
		return nil, err
	}
	if !found {
		return []byte(vllmNone), nil
	}
	if len(r.Cases) == 0 {
		return nil, errors.New("vllm.json: no cases")
	}
	var b bytes.Buffer
	b.WriteString(vllmHead)
	for i := range r.Cases {
		r.Cases[i].row(&b)
	}
	fmt.Fprintf(&b, "\nvLLM %s on %s (%s): `%s`, %s, commit %s.\n", r.Versions["vllm"], r.Device, others(r.Versions, "vllm"), r.Command, r.Date, r.Commit)
	return b.Bytes(), nil
}

// row writes a line for every reading.
func (c *vllmCase) row(b *bytes.Buffer) {
	config := "config.json"
	if c.Config != "" {
		config = c.Config + "/" + config
	}
	head := fmt.Sprintf("| %s | %s | %s, `%s`, %s, %s ", c.Model, c.Recipe, c.Format, config, c.DType, c.Mode)
	if c.Error != "" {
		fmt.Fprintf(b, "%s| refused: %s | | | | | | | | |\n", head, strings.ReplaceAll(c.Error, "|", "\\|"))
		return
	}
	scales := ""
	if s := c.Scales; s != nil {
		scales = fmt.Sprintf("%d of %d, %d of %d, %d of %d", s.RowsEqual, s.Rows, s.GroupEqual, s.Groups, s.BytesEqual, s.Bytes)
	}
	linears := "none"
	if c.Linears.Linears > 0 {
		linears = fmt.Sprintf("%d, %.1e, %.2f %%", c.Linears.Linears, c.Linears.Worst, 100*c.Linears.Equal)
	}
	if o := c.Linears.Other; o[1] > 0 {
		linears += fmt.Sprintf("; %.1e to %.1e", o[0], o[1])
	}
	for i, r := range c.Readings {
		kl := fmt.Sprintf("%.1e", r.KL)
		if i > 0 {
			head = "| | | "
		} else {
			bound := "none"
			if c.Bound > 0 {
				bound = fmt.Sprintf("%.1e", c.Bound)
			}
			kl = fmt.Sprintf("%s (%s; %.1e)", kl, bound, c.Itself)
			head += fmt.Sprintf("| %s; %s | %s | %s ", counted(c.Kernels), counted(c.Attention), scales, linears)
		}
		if i > 0 {
			head += "| | | "
		}
		fmt.Fprintf(b, "%s| %s | %s | %.4f | %.3f, %.3f | %.1f %% | %d/%d |\n", head, r.Reading, kl, r.LogProb, r.Theirs, r.Ours, 100*r.Top1, r.Same, r.Greedy)
	}
}

// counted lists names and how often, by name.
func counted(m map[string]int) string {
	var all []string
	for name, n := range m {
		all = append(all, fmt.Sprintf("%d %s", n, name))
	}
	slices.SortFunc(all, func(a, b string) int {
		_, a, _ = strings.Cut(a, " ")
		_, b, _ = strings.Cut(b, " ")
		return strings.Compare(a, b)
	})
	return strings.Join(all, ", ")
}

// others names the packages but one, with their versions.
func others(versions map[string]string, but string) string {
	var all []string
	for name, version := range versions {
		if name != but {
			all = append(all, name+" "+version)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
