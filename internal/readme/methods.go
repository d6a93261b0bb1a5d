package main

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// comparison is one methods-NAME.json: methods side by side on one model.
type comparison struct {
	Model, Text, Calibration, Date, Commit, Machine string
	Windows, Window                                 int
	Perplexity                                      float64
	Methods                                         []method
}

type method struct {
	Name, Recipe, Flags string
	CPUSeconds          float64                                `json:"cpu_seconds"` // of all cores together; 0: not measured
	PeakRSS             float64                                `json:"peak_rss_bytes"`
	BytesOut            float64                                `json:"bytes_out"`
	Measured            struct{ Date, Commit, Machine string } // of a row that was measured apart
	Readings            []struct {
		Arithmetic string
		LnRatio    float64 `json:"ln_ppl_ratio"`
		KLMean     float64 `json:"kl_mean"`
		Top1       float64 `json:"top1_agreement"`
	}
}

// comparisons reads what is there, by name.
func comparisons(dir string) ([]comparison, error) {
	files, err := filepath.Glob(filepath.Join(dir, "methods-*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	all := make([]comparison, len(files))
	for i, name := range files {
		if _, err := readResults(name, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// methods gives the tables of docs/accuracy.md.
func methods(dir string) ([]byte, error) {
	all, err := comparisons(dir)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, c := range all {
		c.table(&out)
	}
	return out.Bytes(), nil
}

// methodLines gives each of those tables in a line for the README, first readings alone.
func methodLines(dir string) ([]byte, error) {
	all, err := comparisons(dir)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, c := range all {
		var ratios []string
		for _, m := range c.Methods {
			if len(m.Readings) > 0 {
				ratios = append(ratios, fmt.Sprintf("%s %.3f", m.Name, math.Exp(m.Readings[0].LnRatio)))
			}
		}
		fmt.Fprintf(&out, "Methods ([docs/accuracy.md](docs/accuracy.md)), perplexity / bf16: %s, %d windows: %s.<br>\n", c.Model, c.Windows, strings.Join(ratios, ", "))
	}
	return out.Bytes(), nil
}

func (c *comparison) table(w *bytes.Buffer) {
	fmt.Fprintf(w, "### %s, %d windows\n\n", c.Model, c.Windows)
	fmt.Fprintf(w, "bf16 perplexity %.4f. `testdata/results/methods.sh` on %s, windows of %d tokens, calibrated on %s; %s, %s, commit %s.\n\n",
		c.Perplexity, c.Text, c.Window, c.Calibration, c.Machine, c.Date, c.Commit)
	w.WriteString("| method | recipe, flags | reading | perplexity / bf16 | KL | top-1 | quantize: CPU s, GB resident | MB |\n|---|---|---|---|---|---|---|---|\n")
	for _, m := range c.Methods {
		for i, r := range m.Readings {
			label, cost := "", " | "
			if i == 0 {
				label = m.Name
				cost = fmt.Sprintf("%s, %.2f | %.1f", seconds(m.CPUSeconds), m.PeakRSS/1e9, m.BytesOut/1e6)
			}
			fmt.Fprintf(w, "| %s | %s %s | %s | %.4f | %.4f | %.3f | %s |\n", label, m.Recipe, m.Flags, r.Arithmetic, math.Exp(r.LnRatio), r.KLMean, r.Top1, cost)
		}
	}
	w.WriteString("\n")
	apart := false
	for _, m := range c.Methods {
		if m.Measured.Commit != "" {
			fmt.Fprintf(w, "Row %s: %s, %s, commit %s.<br>\n", m.Name, m.Measured.Machine, m.Measured.Date, m.Measured.Commit)
			apart = true
		}
	}
	if apart {
		w.WriteString("\n")
	}
}

func seconds(s float64) string {
	if s == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", s)
}
