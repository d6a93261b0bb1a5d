package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"quantize/internal/fault"
)

// baselineVersion is that of the files written here.
const baselineVersion = 1

// Baseline is what a checkpoint gave when its user accepted it: a JSON file that
// is committed beside the budgets. Budgets with max_increase or max_decrease are
// measured from it. Sums are sha256 in hexadecimal; they hold a later run to the
// base and the texts of this one.
type Baseline struct {
	Version    int    `yaml:"baseline_version" json:"baseline_version"`
	Model      string `yaml:"model" json:"model"`           // its name, for the reader
	Arithmetic string `yaml:"arithmetic" json:"arithmetic"` // the reading that was measured
	Base       string `yaml:"base" json:"base"`             // its name
	BaseSum    string `yaml:"base_sha256" json:"base_sha256"`
	Bytes      int64  `yaml:"bytes" json:"bytes"` // of tensor data

	Texts []BaselineText `yaml:"texts" json:"texts"`
}

// BaselineText is one text of a baseline. A value is nil where the file has none:
// a missing divergence is not one of 0.
type BaselineText struct {
	Text      string `yaml:"text" json:"text"`                   // file name without directories
	TokensSum string `yaml:"tokens_sha256" json:"tokens_sha256"` // of the evaluated tokens
	Window    int    `yaml:"window" json:"window"`
	Windows   int    `yaml:"windows" json:"windows"`

	Perplexity      *float64 `yaml:"perplexity" json:"perplexity,omitempty"`
	PerplexityRatio *float64 `yaml:"perplexity_ratio" json:"perplexity_ratio,omitempty"`
	KLMean          *float64 `yaml:"kl_mean" json:"kl_mean,omitempty"`
	KLMedian        *float64 `yaml:"kl_median" json:"kl_median,omitempty"`
	KLP999          *float64 `yaml:"kl_p999" json:"kl_p999,omitempty"`
	Top1Agreement   *float64 `yaml:"top1_agreement" json:"top1_agreement,omitempty"`
}

// metrics are the values that a budget may be measured from.
func (t *BaselineText) metrics() map[Metric]*float64 {
	return map[Metric]*float64{
		Perplexity: t.Perplexity, PerplexityRatio: t.PerplexityRatio, KLMean: t.KLMean, KLMedian: t.KLMedian, KLP999: t.KLP999, Top1Agreement: t.Top1Agreement,
	}
}

// Value is the metric of the baseline on a text, if it has it.
func (b *Baseline) Value(m Metric, text string) (float64, bool) {
	if m == Bytes {
		return float64(b.Bytes), true
	}
	for i := range b.Texts {
		if b.Texts[i].Text == text {
			if v := b.Texts[i].metrics()[m]; v != nil {
				return *v, true
			}
			return 0, false
		}
	}
	return 0, false
}

// Covers demands every value that budgets on these texts are measured from. A
// text that the baseline does not have is left to the verdict: it may be new.
// Errors wrap [ErrGate] and name the file where and the metric.
func (b *Baseline) Covers(where string, budgets []Budget, texts []string) error {
	var faults []error
	for i, budget := range budgets {
		if !budget.Relative() || budget.Metric == Bytes {
			continue
		}
		for _, t := range b.Texts {
			if !slices.Contains(texts, t.Text) || (budget.Text != "" && budget.Text != t.Text) {
				continue
			}
			if _, ok := b.Value(budget.Metric, t.Text); !ok {
				faults = append(faults, &fault.Error{
					Err: ErrGate, Where: where + ": text " + t.Text, Found: "no " + budget.Metric.String(),
					Wanted: fmt.Sprintf("the value that budgets.%d is measured from", i), Hint: "--write-baseline makes a file that has all",
				})
			}
		}
	}
	return errors.Join(faults...)
}

// LoadBaseline reads the baseline file at path. Errors wrap [ErrGate].
func LoadBaseline(path string) (*Baseline, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Err: ErrGate, Where: path, Found: fault.Cause(err), Wanted: "a readable baseline", Hint: "--write-baseline makes one"}
	}
	return DecodeBaseline(path, data)
}

// DecodeBaseline reads a baseline as strictly as [DecodeGate] reads budgets, by
// the same decoder (JSON is YAML), so that faults have their lines.
func DecodeBaseline(where string, data []byte) (*Baseline, error) {
	src := source{where, ErrGate, "`quantize gate --write-baseline` makes the file; it is not written by hand"}
	node, err := src.parse(data)
	if err != nil {
		return nil, err
	}
	var b Baseline
	if err := src.strict(data, &b); err != nil {
		return nil, err
	}
	if err := b.validate(); err != nil {
		return nil, addLines(where, node, err)
	}
	return &b, nil
}

// Encode gives the file: indented JSON, a value a line, for a diff that shows
// what moved.
func (b *Baseline) Encode() ([]byte, error) {
	b.Version = baselineVersion
	if err := b.validate(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(b)
	return out.Bytes(), err
}

func (b *Baseline) validate() error {
	var faults []error
	bad := func(where, found, wanted string) {
		faults = append(faults, &fault.Error{Err: ErrGate, Where: where, Found: found, Wanted: wanted})
	}
	if b.Version != baselineVersion {
		bad("baseline_version", fmt.Sprint(b.Version), fmt.Sprint(baselineVersion))
		return errors.Join(faults...) // another version has other fields
	}
	if !isSum(b.BaseSum) {
		bad("base_sha256", quoteOrNothing(b.BaseSum), "64 hexadecimal digits")
	}
	if b.Bytes < 1 {
		bad("bytes", fmt.Sprint(b.Bytes), "a positive number")
	}
	if len(b.Texts) > 0 && b.Arithmetic == "" {
		bad("arithmetic", "nothing", "the reading that was measured, such as lut")
	}
	for i := range b.Texts {
		t, where := &b.Texts[i], fmt.Sprintf("texts.%d.", i)
		if t.Text == "" || slices.ContainsFunc(b.Texts[:i], func(o BaselineText) bool { return o.Text == t.Text }) {
			bad(where+"text", quoteOrNothing(t.Text), "names that tell the texts apart")
		}
		if !isSum(t.TokensSum) {
			bad(where+"tokens_sha256", quoteOrNothing(t.TokensSum), "64 hexadecimal digits")
		}
		if t.Window < 2 {
			bad(where+"window", fmt.Sprint(t.Window), "at least 2 tokens")
		}
		if t.Windows < 1 {
			bad(where+"windows", fmt.Sprint(t.Windows), "a positive number")
		}
		if v := t.Perplexity; v != nil && !(*v >= 1) {
			bad(where+"perplexity", fmt.Sprint(*v), "at least 1")
		}
		if v := t.PerplexityRatio; v != nil && !(*v > 0) {
			bad(where+"perplexity_ratio", fmt.Sprint(*v), "a positive number")
		}
		values := t.metrics()
		for m := Perplexity; m < Bytes; m++ {
			if v := values[m]; v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0) || *v < 0) {
				bad(where+m.String(), fmt.Sprint(*v), "a finite number that is not negative")
			}
		}
	}
	return errors.Join(faults...)
}

func isSum(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
