package eval

import (
	"encoding/json"
	"math"
	"strings"

	"quantize/recipe"
)

// Status is what became of a budget.
type Status string

// The statuses. Only Pass lets a gate pass.
const (
	Pass          Status = "pass"
	Fail          Status = "fail"           // the value is beyond the limit
	NotComparable Status = "not_comparable" // there is no value or no limit; Reason says why
)

// Verdict is a budget on one text. The JSON keys are those of
// docs/architecture.md, section 4.
type Verdict struct {
	Model    string        `json:"model"`
	Metric   recipe.Metric `json:"metric"`
	Text     string        `json:"text"` // "" of bytes
	Value    Number        `json:"value"`
	Baseline *Number       `json:"baseline,omitempty"` // the value that the limit is measured from
	Allowed  string        `json:"allowed,omitempty"`  // the change from it: +1%
	Bound    *Number       `json:"bound,omitempty"`    // of the 95 % interval, compared in place of Value
	Side     string        `json:"side"`               // of the limit: max or min
	Limit    Number        `json:"limit"`
	Margin   Number        `json:"margin"` // what is left to the limit; negative where it is exceeded
	OK       bool          `json:"ok"`     // Status is pass
	Status   Status        `json:"status"`
	Reason   string        `json:"reason,omitempty"` // why nothing could be compared
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

// Measured is what budgets are held against: a checkpoint, by one arithmetic.
type Measured struct {
	Model   string
	Bytes   int64    // of tensor data
	Reports []Report // one of each text
	Texts   []string // the names of all texts at hand, for a budget of another one; nil: those of Reports
}

// Gate compares budgets that recipe.Gate.Validate accepts with what was
// measured. The verdicts come in the order of the budgets; one without a text
// has a verdict for each report. baseline may be nil. What cannot be compared
// (no such text, no baseline for it, NaN, an interval of too few windows) is
// [NotComparable]; a report without the base that a budget needs is [ErrInput].
func Gate(budgets []recipe.Budget, m Measured, baseline *recipe.Baseline) ([]Verdict, error) {
	var verdicts []Verdict
	for _, b := range budgets {
		j := judge{b, m.Model, baseline}
		if b.Metric == recipe.Bytes {
			verdicts = append(verdicts, j.value("", float64(m.Bytes)))
			continue
		}
		found := false
		for _, r := range m.Reports {
			if b.Text != "" && b.Text != r.Text {
				continue
			}
			v, err := j.report(r)
			if err != nil {
				return nil, err
			}
			verdicts, found = append(verdicts, v), true
		}
		if !found {
			v := j.value(b.Text, math.NaN())
			v.Reason = "the text was not evaluated; " + m.atHand()
			verdicts = append(verdicts, v)
		}
	}
	return verdicts, nil
}

// atHand names the texts that a budget could have meant.
func (m Measured) atHand() string {
	names := m.Texts
	if names == nil {
		for _, r := range m.Reports {
			names = append(names, r.Text)
		}
	}
	if len(names) == 0 {
		return "there is none (--text)"
	}
	return "there is " + strings.Join(names, ", ")
}

// Count is the number of verdicts with a status.
func Count(verdicts []Verdict, s Status) int {
	n := 0
	for _, v := range verdicts {
		if v.Status == s {
			n++
		}
	}
	return n
}
