package recipe

import (
	"strconv"
	"strings"
)

// Change is how far a value may move from its baseline: 0.01 in the unit of the
// metric, 1% of the baseline's value.
type Change struct {
	Amount  float64
	Percent bool
}

// of is the change in the unit of the metric.
func (c Change) of(baseline float64) float64 {
	if c.Percent {
		return baseline * c.Amount / 100
	}
	return c.Amount
}

func (c Change) String() string {
	s := strconv.FormatFloat(c.Amount, 'g', -1, 64)
	if c.Percent {
		s += "%"
	}
	return s
}

// MarshalText gives the number or the percentage.
func (c Change) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText accepts a number, or one with a percent sign.
func (c *Change) UnmarshalText(b []byte) error {
	number, percent := strings.CutSuffix(string(b), "%")
	v, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(number), "_", ""), 64)
	if err != nil {
		return &badValue{field: "max_increase, max_decrease", found: string(b), wanted: "a number such as 0.01, or a percentage such as 1%"}
	}
	*c = Change{Amount: v, Percent: percent}
	return nil
}
