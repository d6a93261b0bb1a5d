package eval

import (
	"errors"
	"strings"
	"testing"

	"quantize/recipe"
)

const baseSum = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// measured is a checkpoint on one text, with the baseline of its own values.
func measured(t *testing.T) (Measured, *recipe.Baseline, []Protocol) {
	t.Helper()
	m := Measured{Model: "out", Bytes: 1000, Reports: []Report{gated("a")}}
	p := []Protocol{{Text: "a", TokensSum: strings.Repeat("ab", 32), Window: 512, Windows: 20}}
	data, err := NewBaseline(m, baseSum, p).Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := recipe.DecodeBaseline("b.json", data)
	if err != nil {
		t.Fatal(err)
	}
	return m, b, p
}

func TestBudgetsFromABaseline(t *testing.T) {
	t.Parallel()
	m, baseline, _ := measured(t)
	m.Reports[0].KLMean = 0.3 // was 0.25
	m.Reports[0].Top1Agreement = 0.7
	m.Bytes = 1010
	change := func(amount float64, percent bool) *recipe.Change {
		return &recipe.Change{Amount: amount, Percent: percent}
	}
	for _, tc := range []struct {
		name   string
		budget recipe.Budget
		status Status
		limit  float64
	}{
		{"increase in nats", recipe.Budget{Metric: recipe.KLMean, MaxIncrease: change(0.0625, false)}, Pass, 0.3125},
		{"increase in nats, beyond", recipe.Budget{Metric: recipe.KLMean, MaxIncrease: change(0.03, false)}, Fail, 0.28},
		{"increase in per cent", recipe.Budget{Metric: recipe.KLMean, MaxIncrease: change(25, true)}, Pass, 0.3125},
		{"increase in per cent, beyond", recipe.Budget{Metric: recipe.KLMean, MaxIncrease: change(10, true)}, Fail, 0.275},
		{"decrease", recipe.Budget{Metric: recipe.Top1Agreement, MaxDecrease: change(0.1, false)}, Pass, 0.65},
		{"decrease, beyond", recipe.Budget{Metric: recipe.Top1Agreement, MaxDecrease: change(0, false)}, Fail, 0.75},
		{"median", recipe.Budget{Metric: recipe.KLMedian, MaxIncrease: change(0, false)}, Pass, 0.125},
		{"no change", recipe.Budget{Metric: recipe.KLP999, MaxIncrease: change(0, false)}, Pass, 2},
		{"bytes", recipe.Budget{Metric: recipe.Bytes, MaxIncrease: change(1, true)}, Pass, 1010},
		{"bytes, beyond", recipe.Budget{Metric: recipe.Bytes, MaxIncrease: change(9, false)}, Fail, 1009},
		{"bound against the value", recipe.Budget{Metric: recipe.PerplexityRatio, MaxIncrease: change(0.02, false), Confidence: true}, Fail, 1.07},
		{"bound against the value, within", recipe.Budget{Metric: recipe.PerplexityRatio, MaxIncrease: change(0.04, false), Confidence: true}, Pass, 1.09},
	} {
		v, err := Gate([]recipe.Budget{tc.budget}, m, baseline)
		if err != nil || len(v) != 1 || v[0].Status != tc.status || !alike(float64(v[0].Limit), tc.limit) || v[0].Baseline == nil {
			t.Errorf("%s: %+v, %v", tc.name, v, err)
		}
	}
	v, err := Gate([]recipe.Budget{{Metric: recipe.KLMean, MaxIncrease: change(10, true)}}, m, baseline)
	if err != nil {
		t.Fatal(err)
	}
	want := `      metric   text  value  baseline  limit             margin
FAIL  kl_mean  a     0.3    0.25      max 0.275 (+10%)  -0.025
`
	if got := GateText(v); got != want {
		t.Errorf("%s", got)
	}
	if got := string(GateJUnit(v)); !strings.Contains(got, `name="kl_mean max +10% on a"`) || !strings.Contains(got, "value 0.3, baseline 0.25, limit max 0.275") {
		t.Error(got)
	}
}

// Verdicts of several checkpoints tell whose they are.
func TestGateTextOfSeveralModels(t *testing.T) {
	t.Parallel()
	var all []Verdict
	for _, model := range []string{"a", "b"} {
		v, err := Gate([]recipe.Budget{{Metric: recipe.Bytes, Max: at(2)}}, Measured{Model: model, Bytes: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v...)
	}
	if got := GateText(all); got != "      model  metric  text  value  limit  margin\nPASS  a      bytes         1      max 2  1\nPASS  b      bytes         1      max 2  1\n" {
		t.Errorf("%s", got)
	}
}

func TestCheckBaseline(t *testing.T) {
	t.Parallel()
	_, baseline, protocols := measured(t)
	if err := CheckBaseline("b.json", baseline, "base", baseSum, append(protocols, Protocol{Text: "new"})); err != nil {
		t.Errorf("its own protocol: %v", err)
	}
	other := strings.Repeat("cd", 32)
	for name, tc := range map[string]struct {
		sum    string
		change func(p *Protocol)
		want   []string
	}{
		"base":    {other, func(*Protocol) {}, []string{"b.json", "001122334455", "cdcdcdcdcdcd"}},
		"tokens":  {baseSum, func(p *Protocol) { p.TokensSum = other }, []string{"text a", "abababababab", "cdcdcdcdcdcd"}},
		"window":  {baseSum, func(p *Protocol) { p.Window = 256 }, []string{"found 20 windows of 512", "wanted 20 windows of 256"}},
		"windows": {baseSum, func(p *Protocol) { p.Windows = 10 }, []string{"found 20 windows of 512", "wanted 10 windows of 512"}},
	} {
		p := protocols[0]
		tc.change(&p)
		err := CheckBaseline("b.json", baseline, "base", tc.sum, []Protocol{p})
		if !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", name, err, w)
			}
		}
	}
}

func TestCheckReading(t *testing.T) {
	t.Parallel()
	_, baseline, _ := measured(t)
	same := Candidate{Name: "out", Arithmetic: baseline.Arithmetic}
	if err := CheckReading("b.json", baseline, []Candidate{same}); err != nil {
		t.Error(err)
	}
	err := CheckReading("b.json", baseline, []Candidate{same, {Name: "other", Arithmetic: "weight-only"}})
	if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "the reading "+baseline.Arithmetic) || !strings.Contains(err.Error(), "weight-only, that of other") {
		t.Errorf("got %v", err)
	}
}

func TestProtocols(t *testing.T) {
	t.Parallel()
	base, _, texts := three(t)
	got, err := Protocols([]Candidate{base}, texts, Options{Window: window})
	if err != nil || len(got) != 2 || got[0].Windows != 11 || got[1].Windows != 3 || got[0].Window != window || got[0].TokensSum == got[1].TokensSum {
		t.Fatalf("%+v, %v", got, err)
	}
	// The remainder is not evaluated, so it does not tell two texts apart.
	longer := texts[1]
	longer.Tokens = append(append([]int32{}, longer.Tokens...), 1)
	again, err := Protocols([]Candidate{base}, []Text{longer}, Options{Window: window})
	if err != nil || again[0] != got[1] {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := Protocols([]Candidate{base}, texts, Options{Window: 1}); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
}
