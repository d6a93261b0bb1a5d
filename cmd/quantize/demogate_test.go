package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"quantize/eval"
)

// The budgets of the demo hold for its result with room for another processor's
// sums (docs/numerics.md), and not for plain rounding: the measured numbers are
// those behind the README's table.
func TestDemoGate(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "results", "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	var results struct {
		Demo struct {
			Quantized, Plain eval.Report
			BytesOut         int64 `json:"bytes_out"`
		}
	}
	if err := json.Unmarshal(data, &results); err != nil {
		t.Fatal(err)
	}
	dir, d := t.TempDir(), results.Demo
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	res, err := demoGate(dir, d.Quantized, d.BytesOut)
	if err != nil || res.err() != nil || len(res.Budgets) != 4 {
		t.Errorf("%+v, %v", res, err)
	}
	for _, v := range res.Budgets[:3] {
		// A third of what the budget allows is left: the spread between processors is a sixth.
		spent := 1 - float64(v.Margin)/allowance(v)
		if spent > 2./3 {
			t.Errorf("%s spends %.0f %% of its budget", v.Metric, 100*spent)
		}
	}
	res, err = demoGate(dir, d.Plain, d.BytesOut)
	if err != nil || !errors.Is(res.err(), errGate) || eval.Count(res.Budgets, eval.Fail) != 3 {
		t.Errorf("plain rounding: %+v, %v", res, err)
	}
}

// allowance is the limit's distance from a model without any loss.
func allowance(v eval.Verdict) float64 {
	switch v.Side {
	case "min":
		return 1 - float64(v.Limit)
	default:
		if v.Limit > 1 {
			return float64(v.Limit) - 1
		}
		return float64(v.Limit)
	}
}
