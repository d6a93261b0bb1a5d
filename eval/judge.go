package eval

import (
	"fmt"
	"math"

	"quantize/internal/fault"
	"quantize/recipe"
)

// judge holds one budget against the values of a model.
type judge struct {
	budget   recipe.Budget
	model    string
	baseline *recipe.Baseline // nil: there is none
}

// report is the verdict on the text of a report.
func (j judge) report(r Report) (Verdict, error) {
	if j.budget.Metric == recipe.Perplexity {
		return j.value(r.Text, r.Perplexity), nil
	}
	c := r.Comparison
	if c == nil {
		return Verdict{}, &fault.Error{Err: ErrInput, Where: "budget of " + j.budget.Metric.String(), Found: "an evaluation without a base", Wanted: "one beside the base", Hint: "--base"}
	}
	switch j.budget.Metric {
	case recipe.PerplexityRatio:
		if j.budget.Confidence {
			return j.interval(r), nil
		}
		return j.value(r.Text, math.Exp(c.LnPPLRatio)), nil
	case recipe.KLMean:
		return j.value(r.Text, c.KLMean), nil
	case recipe.KLMedian:
		return j.value(r.Text, c.KLMedian), nil
	case recipe.KLP999:
		return j.value(r.Text, c.KLP999), nil
	case recipe.Top1Agreement:
		return j.value(r.Text, c.Top1Agreement), nil
	default:
		panic("eval: a budget that was not validated")
	}
}

// value compares the value itself.
func (j judge) value(text string, value float64) Verdict {
	v := j.verdict(text, value)
	v.compare(value)
	return v
}

// interval compares the end of the interval that is nearer to the limit: the
// budget holds only if it holds for all of the interval.
func (j judge) interval(r Report) Verdict {
	v := j.verdict(r.Text, math.Exp(r.LnPPLRatio))
	if r.CI95 == nil {
		v.compare(math.NaN())
		v.Reason = fmt.Sprintf("%d windows, an interval needs at least %d", r.Windows, MinWindows)
		return v
	}
	bound := math.Exp(r.CI95[1])
	if v.Side == "min" {
		bound = math.Exp(r.CI95[0])
	}
	n := Number(bound)
	v.Bound = &n
	v.compare(bound)
	return v
}

// verdict is one without its outcome. A budget that is relative to a value that
// the baseline does not have gets a limit that is not a number.
func (j judge) verdict(text string, value float64) Verdict {
	from := math.NaN()
	v := Verdict{Model: j.model, Metric: j.budget.Metric, Text: text, Value: Number(value), Allowed: j.budget.Allowed()}
	if j.budget.Relative() && j.baseline != nil {
		if known, ok := j.baseline.Value(j.budget.Metric, text); ok {
			from = known
			n := Number(known)
			v.Baseline = &n
		}
	}
	side, limit := j.budget.Limit(from)
	v.Side, v.Limit = side, Number(limit)
	return v
}

// compare fills in the outcome; NaN is on neither side of a limit.
func (v *Verdict) compare(value float64) {
	limit := float64(v.Limit)
	over := value - limit
	if v.Side == "min" {
		over = -over
	}
	v.Margin = Number(0 - over) // not -over: no negative zero at the limit
	switch {
	case math.IsNaN(limit):
		v.Status, v.Reason = NotComparable, "the baseline has no such value"
	case math.IsNaN(value):
		v.Status, v.Reason = NotComparable, "the value is not a number"
	case over > 0:
		v.Status = Fail
	default:
		v.Status, v.OK = Pass, true
	}
}
