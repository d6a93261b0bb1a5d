package eval

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"quantize/recipe"
)

// columns gives the heads of the table and the cells of a line. Those of the
// model and the baseline are there only where they say something.
func columns(verdicts []Verdict) (head []string, row func(Verdict) []string) {
	models, baselines := false, false
	for _, v := range verdicts {
		models = models || v.Model != verdicts[0].Model
		baselines = baselines || v.Allowed != ""
	}
	pick := func(model, metric, text, value, baseline, limit, margin string) []string {
		cells := []string{metric, text, value}
		if models {
			cells = append([]string{model}, cells...)
		}
		if baselines {
			cells = append(cells, baseline)
		}
		return append(cells, limit, margin)
	}
	return pick("model", "metric", "text", "value", "baseline", "limit", "margin"), func(v Verdict) []string {
		return pick(v.Model, v.Metric.String(), v.Text, v.value(), v.baseline(), v.limit(), v.margin())
	}
}

// GateText is the table of verdicts for a terminal, a line each.
func GateText(verdicts []Verdict) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	head, row := columns(verdicts)
	_, _ = fmt.Fprintln(w, "\t"+strings.Join(head, "\t")) // a Builder does not fail
	for _, v := range verdicts {
		_, _ = fmt.Fprintln(w, v.word()+"\t"+strings.Join(row(v), "\t"))
	}
	_ = w.Flush()
	return b.String()
}

// GateSummary counts what is not OK.
func GateSummary(verdicts []Verdict) string {
	s := fmt.Sprintf("%d of %d budgets exceeded", Count(verdicts, Fail), len(verdicts))
	if n := Count(verdicts, NotComparable); n > 0 {
		s += fmt.Sprintf(", %d not comparable", n)
	}
	return s
}

// margin is the margin, or why there is none.
func (v Verdict) margin() string {
	if v.Reason != "" {
		return "none: " + v.Reason
	}
	return v.number(float64(v.Margin))
}

func (v Verdict) word() string {
	return map[Status]string{Pass: "PASS", Fail: "FAIL", NotComparable: "NOT COMPARABLE"}[v.Status]
}

// limit is the number that was compared with, and how it came about.
func (v Verdict) limit() string {
	s := v.Side + " " + v.number(float64(v.Limit))
	if v.Allowed != "" {
		s += " (" + v.Allowed + ")"
	}
	return s
}

func (v Verdict) baseline() string {
	if v.Baseline == nil {
		return ""
	}
	return v.number(float64(*v.Baseline))
}

// value is the value and, where another number was compared, that.
func (v Verdict) value() string {
	s := v.number(float64(v.Value))
	if v.Bound != nil {
		s += " (95 % bound " + v.number(float64(*v.Bound)) + ")"
	}
	return s
}

// number has the digits a reader compares by; bytes are whole.
func (v Verdict) number(x float64) string {
	if math.IsNaN(x) {
		return "unknown"
	}
	if v.Metric == recipe.Bytes {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', 6, 64)
}
