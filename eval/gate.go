package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"quantize/internal/fault"
	"quantize/recipe"
)

// Verdict is a budget on one text. The JSON keys are those of
// docs/architecture.md, section 4.
type Verdict struct {
	Metric recipe.Metric `json:"metric"`
	Text   string        `json:"text"` // "" of bytes
	Value  Number        `json:"value"`
	Bound  *Number       `json:"bound,omitempty"` // of the 95 % interval, compared in place of Value
	Side   string        `json:"side"`            // of the limit: max or min
	Limit  float64       `json:"limit"`
	Margin Number        `json:"margin"` // what is left to the limit; negative where it is exceeded
	OK     bool          `json:"ok"`
	Reason string        `json:"reason,omitempty"` // why nothing could be compared
}

// Number is a float64 that JSON has as null where it is not finite.
type Number float64

// MarshalJSON gives the number or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if v := float64(n); !math.IsNaN(v) && !math.IsInf(v, 0) {
		return json.Marshal(v)
	}
	return []byte("null"), nil
}

// Gate compares budgets that recipe.Gate.Validate accepts with the reports, one
// of each text, and the bytes of a checkpoint. The verdicts come in the order of
// the budgets; one without a text has a verdict for each report. What cannot be
// compared (NaN, an interval of too few windows) is not OK. A budget on a text
// without a report, or on a report without the base it needs, is [ErrInput].
func Gate(budgets []recipe.Budget, reports []Report, bytes int64) ([]Verdict, error) {
	texts := make([]string, len(reports))
	for i, r := range reports {
		texts[i] = r.Text
	}
	if err := CheckTexts(budgets, texts); err != nil {
		return nil, err
	}
	var verdicts []Verdict
	for _, b := range budgets {
		if b.Metric == recipe.Bytes {
			verdicts = append(verdicts, judge(b, "", float64(bytes)))
			continue
		}
		for _, r := range reports {
			if b.Text != "" && b.Text != r.Text {
				continue
			}
			v, err := verdict(b, r)
			if err != nil {
				return nil, err
			}
			verdicts = append(verdicts, v)
		}
	}
	return verdicts, nil
}

// CheckTexts demands that each budget has a text to be measured on; it lets a
// caller refuse before hours of evaluation. The error is [ErrInput].
func CheckTexts(budgets []recipe.Budget, texts []string) error {
	for _, b := range budgets {
		if b.Metric == recipe.Bytes || b.Text == "" && len(texts) > 0 || slices.Contains(texts, b.Text) {
			continue
		}
		found := "no text"
		if len(texts) > 0 {
			found = strings.Join(texts, ", ")
		}
		wanted := "any text"
		if b.Text != "" {
			wanted = b.Text
		}
		return &fault.Error{Err: ErrInput, Where: "budget of " + b.Metric.String(), Found: found, Wanted: wanted, Hint: "evaluate that text too: --text"}
	}
	return nil
}

// verdict is a budget on the text of a report.
func verdict(b recipe.Budget, r Report) (Verdict, error) {
	if b.Metric == recipe.Perplexity {
		return judge(b, r.Text, r.Perplexity), nil
	}
	c := r.Comparison
	if c == nil {
		return Verdict{}, &fault.Error{Err: ErrInput, Where: "budget of " + b.Metric.String(), Found: "an evaluation without a base", Wanted: "one beside the base", Hint: "--base"}
	}
	switch b.Metric {
	case recipe.PerplexityRatio:
		if b.Confidence {
			return judgeInterval(b, r), nil
		}
		return judge(b, r.Text, math.Exp(c.LnPPLRatio)), nil
	case recipe.KLMean:
		return judge(b, r.Text, c.KLMean), nil
	case recipe.KLP999:
		return judge(b, r.Text, c.KLP999), nil
	case recipe.Top1Agreement:
		return judge(b, r.Text, c.Top1Agreement), nil
	default:
		panic("eval: a budget that was not validated")
	}
}

// judge compares the value itself.
func judge(b recipe.Budget, text string, value float64) Verdict {
	v := Verdict{Metric: b.Metric, Text: text, Value: Number(value)}
	v.compare(b, value)
	return v
}

// judgeInterval compares the end of the interval that is nearer to the limit:
// the budget holds only if it holds for all of the interval.
func judgeInterval(b recipe.Budget, r Report) Verdict {
	v := Verdict{Metric: b.Metric, Text: r.Text, Value: Number(math.Exp(r.LnPPLRatio))}
	ci := r.CI95
	if ci == nil {
		v.compare(b, math.NaN())
		v.Reason = fmt.Sprintf("%d windows, an interval needs at least %d", r.Windows, MinWindows)
		return v
	}
	bound := math.Exp(ci[1])
	if b.Min != nil {
		bound = math.Exp(ci[0])
	}
	n := Number(bound)
	v.Bound = &n
	v.compare(b, bound)
	return v
}

// compare fills in the limit; NaN is on neither side of it.
func (v *Verdict) compare(b recipe.Budget, value float64) {
	v.Side, v.Limit = b.Limit()
	if b.Max != nil {
		v.OK, v.Margin = value <= v.Limit, Number(v.Limit-value)
	} else {
		v.OK, v.Margin = value >= v.Limit, Number(value-v.Limit)
	}
	if math.IsNaN(value) {
		v.Reason = "the value is not a number"
	}
}

// Exceeded counts the verdicts that are not OK.
func Exceeded(verdicts []Verdict) int {
	n := 0
	for _, v := range verdicts {
		if !v.OK {
			n++
		}
	}
	return n
}
