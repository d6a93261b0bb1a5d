package recipe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"quantize/internal/fault"
)

// ErrGate marks every budget file that is not accepted (exit code 10).
var ErrGate = errors.New("invalid gate")

// Gate is a budget file: what quantization may cost.
type Gate struct {
	Budgets []Budget `yaml:"budgets"`
}

// IsKL says that the metric is of the divergences of all positions.
func (m Metric) IsKL() bool { return m == KLMean || m == KLMedian || m == KLP999 }

// Budget limits one metric: by a number, or by a change from the value in a
// [Baseline]. Exactly one of the four is set; the limit itself is still allowed.
type Budget struct {
	Metric      Metric   `yaml:"metric"`
	Max         *float64 `yaml:"max"`
	Min         *float64 `yaml:"min"`
	MaxIncrease *Change  `yaml:"max_increase"`
	MaxDecrease *Change  `yaml:"max_decrease"`
	Text        string   `yaml:"text"` // file name without directories; "": each evaluated text

	// Confidence compares the bound of the 95 % interval that lies nearer to the
	// limit in place of the value.
	Confidence bool `yaml:"confidence"`
}

// Metric is what a budget limits.
type Metric uint8

// The metrics. The zero value is unset and invalid.
const (
	metricUnset     Metric = iota
	Perplexity             // of the quantized checkpoint
	PerplexityRatio        // quantized / base
	KLMean                 // KL(base || quantized) per position, in nats
	KLMedian               // its median, in nats
	KLP999                 // its quantile 0.999, in nats
	Top1Agreement          // share of positions with the same argmax, 0 to 1
	Bytes                  // of tensor data
)

var metrics = names[Metric]{"metric", []string{"", "perplexity", "perplexity_ratio", "kl_mean", "kl_median", "kl_p999", "top1_agreement", "bytes"}}

func (m Metric) String() string { return metrics.of(m) }

// MarshalText gives the name in budget files and reports.
func (m Metric) MarshalText() ([]byte, error) { return []byte(metrics.of(m)), nil }

// UnmarshalText accepts exactly the names of the metrics.
func (m *Metric) UnmarshalText(b []byte) error { return metrics.parse(m, b) }

// LoadGate reads the budget file at path. Errors wrap [ErrGate].
func LoadGate(path string) (*Gate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &fault.Error{Err: ErrGate, Where: path, Found: fault.Cause(err), Wanted: "a readable budget file", Hint: fault.HintFile}
	}
	return DecodeGate(path, data)
}

// DecodeGate reads one YAML document as strictly as [Decode]. where names the
// source; each error is a [fault.Error] that wraps [ErrGate] and has
// "where:line" of the fault.
func DecodeGate(where string, data []byte) (*Gate, error) {
	src := source{where, ErrGate, "the fields of a budget are metric, one of max, min, max_increase and max_decrease, text and confidence"}
	node, err := src.parse(data)
	if err != nil {
		return nil, err
	}
	var g Gate
	if err := src.strict(data, &g); err != nil {
		return nil, err
	}
	if err := g.Validate(); err != nil {
		return nil, addLines(where, node, err)
	}
	return &g, nil
}

// Validate reports all faults of the budgets at once, each a [fault.Error] that
// wraps [ErrGate] and names the field in Where.
func (g *Gate) Validate() error {
	if len(g.Budgets) == 0 {
		return &fault.Error{Err: ErrGate, Where: "budgets", Found: "none", Wanted: "at least one budget", Hint: "a gate without budgets lets everything pass"}
	}
	var faults []error
	for i, b := range g.Budgets {
		b.validate(func(field, found, wanted, hint string) {
			where := fmt.Sprintf("budgets.%d", i)
			if field != "" {
				where += "." + field
			}
			faults = append(faults, &fault.Error{Err: ErrGate, Where: where, Found: found, Wanted: wanted, Hint: hint})
		})
	}
	return errors.Join(faults...)
}

func (b Budget) validate(bad func(field, found, wanted, hint string)) {
	if b.Metric == metricUnset {
		bad("metric", "nothing", metrics.list(), "")
	}
	switch limits := b.limits(); len(limits) {
	case 0:
		bad("", "no limit", "one of max, min, max_increase and max_decrease", "")
	case 1:
		b.validateLimit(limits[0], bad)
	default:
		bad("", strings.Join(limits, " and "), "one of them", "two budgets may limit one metric from both sides")
	}
	if b.Confidence && b.Metric != PerplexityRatio {
		bad("confidence", "true of "+quoteOrNothing(b.Metric.String()), PerplexityRatio.String(), "the other metrics have no interval; remove the line")
	}
	if strings.ContainsAny(b.Text, `/\`) {
		bad("text", quoteOrNothing(b.Text), "a file name without directories", "it names --text DIR/NAME as NAME")
	}
	if b.Text != "" && b.Metric == Bytes {
		bad("text", quoteOrNothing(b.Text), "no text", "the size of a checkpoint does not depend on one; remove the line")
	}
}

// limits names the limits that are set.
func (b Budget) limits() []string {
	var set []string
	for _, l := range []struct {
		name string
		set  bool
	}{{"max", b.Max != nil}, {"min", b.Min != nil}, {"max_increase", b.MaxIncrease != nil}, {"max_decrease", b.MaxDecrease != nil}} {
		if l.set {
			set = append(set, l.name)
		}
	}
	return set
}

func (b Budget) validateLimit(field string, bad func(field, found, wanted, hint string)) {
	if b.Relative() {
		if c := b.change(); !(c.Amount >= 0) || math.IsInf(c.Amount, 0) {
			bad(field, c.String(), "a finite number that is not negative", "0 allows no change")
		}
		return
	}
	switch _, limit := b.Limit(0); {
	case math.IsNaN(limit) || math.IsInf(limit, 0):
		bad(field, fmt.Sprint(limit), "a finite number", "")
	case b.Metric == Top1Agreement && (limit < 0 || limit > 1):
		bad(field, fmt.Sprint(limit), "a share, 0 to 1", "99 % is 0.99")
	}
}

// Relative says that the limit is a change from a baseline.
func (b Budget) Relative() bool { return b.MaxIncrease != nil || b.MaxDecrease != nil }

// Limit is "max" or "min" and the number, of a budget that [Gate.Validate]
// accepts. Only one that is [Budget.Relative] reads the baseline's value.
func (b Budget) Limit(baseline float64) (side string, limit float64) {
	switch {
	case b.Max != nil:
		return "max", *b.Max
	case b.Min != nil:
		return "min", *b.Min
	case b.MaxIncrease != nil:
		return "max", baseline + b.MaxIncrease.of(baseline)
	default:
		return "min", baseline - b.MaxDecrease.of(baseline)
	}
}

// Allowed is the change as the budget file has it, with the sign of its side;
// "" of a budget that is not relative.
func (b Budget) Allowed() string {
	switch {
	case b.MaxIncrease != nil:
		return "+" + b.MaxIncrease.String()
	case b.MaxDecrease != nil:
		return "-" + b.MaxDecrease.String()
	default:
		return ""
	}
}

func (b Budget) change() Change {
	if b.MaxIncrease != nil {
		return *b.MaxIncrease
	}
	return *b.MaxDecrease
}
