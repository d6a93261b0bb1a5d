package eval

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"math"
	"strings"
	"testing"

	"quantize/recipe"
)

func at(v float64) *float64 { return &v }

// gated is a report whose ratio is 1.05, its interval 1.02 .. 1.08.
func gated(text string) Report {
	return Report{
		Result: Result{Text: text, Arithmetic: "lut", Windows: 20, Perplexity: 10.5},
		Comparison: &Comparison{
			Base: &Result{Perplexity: 10}, KLMean: 0.25, KLMedian: 0.125, KLP999: 2, Top1Agreement: 0.75,
			LnPPLRatio: math.Log(1.05), CI95: &[2]float64{math.Log(1.02), math.Log(1.08)},
		},
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	notANumber, few := gated("a"), gated("a")
	notANumber.KLMean = math.NaN()
	few.CI95, few.Windows = nil, MinWindows-1
	for _, tc := range []struct {
		name    string
		budget  recipe.Budget
		report  Report
		ok      bool
		margin  float64
		compare float64 // the value, or the bound that took its place
		reason  string
	}{
		{"below max", recipe.Budget{Metric: recipe.Perplexity, Max: at(11)}, gated("a"), true, 0.5, 10.5, ""},
		{"above max", recipe.Budget{Metric: recipe.Perplexity, Max: at(10)}, gated("a"), false, -0.5, 10.5, ""},
		{"exactly max", recipe.Budget{Metric: recipe.KLMean, Max: at(0.25)}, gated("a"), true, 0, 0.25, ""},
		{"just above max", recipe.Budget{Metric: recipe.KLMean, Max: at(math.Nextafter(0.25, 0))}, gated("a"), false, 0, 0.25, ""},
		{"exactly min", recipe.Budget{Metric: recipe.Top1Agreement, Min: at(0.75)}, gated("a"), true, 0, 0.75, ""},
		{"below min", recipe.Budget{Metric: recipe.Top1Agreement, Min: at(0.875)}, gated("a"), false, -0.125, 0.75, ""},
		{"middle of the divergence", recipe.Budget{Metric: recipe.KLMedian, Max: at(0.1)}, gated("a"), false, -0.025, 0.125, ""},
		{"tail of the divergence", recipe.Budget{Metric: recipe.KLP999, Max: at(1)}, gated("a"), false, -1, 2, ""},
		{"ratio", recipe.Budget{Metric: recipe.PerplexityRatio, Max: at(1.06)}, gated("a"), true, 0.01, 1.05, ""},
		{"upper bound of the ratio", recipe.Budget{Metric: recipe.PerplexityRatio, Max: at(1.06), Confidence: true}, gated("a"), false, -0.02, 1.08, ""},
		{"lower bound of the ratio", recipe.Budget{Metric: recipe.PerplexityRatio, Min: at(1.03), Confidence: true}, gated("a"), false, -0.01, 1.02, ""},
		{"too few windows", recipe.Budget{Metric: recipe.PerplexityRatio, Max: at(9), Confidence: true}, few, false, math.NaN(), 1.05, "9 windows, an interval needs at least 10"},
		{"NaN under max", recipe.Budget{Metric: recipe.KLMean, Max: at(9)}, notANumber, false, math.NaN(), math.NaN(), "not a number"},
		{"NaN over min", recipe.Budget{Metric: recipe.KLMean, Min: at(-9)}, notANumber, false, math.NaN(), math.NaN(), "not a number"},
		{"bytes", recipe.Budget{Metric: recipe.Bytes, Max: at(1000)}, gated("a"), true, 0, 1000, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Gate([]recipe.Budget{tc.budget}, Measured{Model: "out", Bytes: 1000, Reports: []Report{tc.report}}, nil)
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			v := got[0]
			compared := v.Value
			if v.Bound != nil {
				compared = *v.Bound
			}
			want := Fail
			if tc.ok {
				want = Pass
			} else if tc.reason != "" {
				want = NotComparable
			}
			if v.OK != tc.ok || v.Status != want || v.Model != "out" || !alike(float64(v.Margin), tc.margin) || !alike(float64(compared), tc.compare) || !strings.Contains(v.Reason, tc.reason) || tc.reason == "" && v.Reason != "" {
				t.Errorf("%+v", v)
			}
			if tc.budget.Confidence && tc.reason == "" && v.Bound == nil {
				t.Error("the bound is not told")
			}
			data, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if math.IsNaN(tc.margin) != strings.Contains(string(data), `"margin":null`) {
				t.Errorf("%s", data)
			}
		})
	}
}

func alike(a, b float64) bool { return math.Abs(a-b) < 1e-12 || math.IsNaN(a) && math.IsNaN(b) }

func TestVerdictsKeepTheOrderOfTheFile(t *testing.T) {
	t.Parallel()
	got, err := Gate([]recipe.Budget{
		{Metric: recipe.KLMean, Max: at(1), Text: "b"}, {Metric: recipe.Bytes, Max: at(1)}, {Metric: recipe.Perplexity, Max: at(1)},
	}, Measured{Bytes: 1, Reports: []Report{gated("a"), gated("b")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, v := range got {
		order = append(order, v.Metric.String()+" "+v.Text)
	}
	if s := strings.Join(order, ","); s != "kl_mean b,bytes ,perplexity a,perplexity b" {
		t.Error(s)
	}
	if n := Count(got, Fail); n != 2 {
		t.Errorf("%d exceeded", n)
	}
}

// What was not measured is told apart from what is exceeded.
func TestGateTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	percent := &recipe.Change{Amount: 1, Percent: true}
	baseline := &recipe.Baseline{Bytes: 1000, Texts: []recipe.BaselineText{{Text: "b", KLMean: at(0.1)}}}
	for _, tc := range []struct {
		name     string
		budget   recipe.Budget
		reports  []Report
		baseline *recipe.Baseline
		want     string
	}{
		{"another text", recipe.Budget{Metric: recipe.KLMean, Max: at(1), Text: "b"}, []Report{gated("a")}, nil, "not evaluated"},
		{"no text at all", recipe.Budget{Metric: recipe.KLMean, Max: at(1)}, nil, nil, "not evaluated"},
		{"a text the baseline lacks", recipe.Budget{Metric: recipe.KLMean, MaxIncrease: percent}, []Report{gated("a")}, baseline, "baseline"},
		{"no baseline", recipe.Budget{Metric: recipe.Bytes, MaxIncrease: percent}, nil, nil, "baseline"},
	} {
		v, err := Gate([]recipe.Budget{tc.budget}, Measured{Bytes: 1000, Reports: tc.reports}, tc.baseline)
		if err != nil || len(v) != 1 || v[0].OK || v[0].Status != NotComparable || !strings.Contains(v[0].Reason, tc.want) {
			t.Errorf("%s: %+v, %v", tc.name, v, err)
			continue
		}
		var suites junitSuites
		if err := xml.Unmarshal(GateJUnit(v), &suites); err != nil {
			t.Fatal(err)
		}
		s := suites.Suites[0]
		if s.Failures != 0 || s.Errors != 1 || s.Cases[0].Error == nil || s.Cases[0].Failure != nil || !strings.Contains(s.Cases[0].Error.Message, tc.want) {
			t.Errorf("%s: %+v", tc.name, s)
		}
		for form, got := range map[string]string{"text": GateText(v), "Markdown": GateMarkdown("m", v)} {
			if !strings.Contains(got, "NOT COMPARABLE") || !strings.Contains(got, tc.want) || strings.Contains(got, "FAIL") {
				t.Errorf("%s as %s:\n%s", tc.name, form, got)
			}
		}
		if got := GateMarkdown("m", v); !strings.HasPrefix(got, "**Accuracy gate: failed** (m, 0 of 1 budgets exceeded, 1 not comparable)") {
			t.Error(got)
		}
	}
}

func TestGateWithoutABase(t *testing.T) {
	t.Parallel()
	alone := gated("a")
	alone.Comparison = nil
	if v, err := Gate([]recipe.Budget{{Metric: recipe.KLMean, Max: at(1)}}, Measured{Reports: []Report{alone}}, nil); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "--base") {
		t.Errorf("%v, %v", v, err)
	}
}

func reported(t *testing.T) []Verdict {
	t.Helper()
	v, err := Gate([]recipe.Budget{
		{Metric: recipe.PerplexityRatio, Max: at(1.06), Confidence: true}, {Metric: recipe.Bytes, Max: at(123456789)},
	}, Measured{Model: "out", Bytes: 123456789, Reports: []Report{gated(`<w>&"|.txt`)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestJUnitIsReadBack(t *testing.T) {
	t.Parallel()
	var got junitSuites
	if err := xml.Unmarshal(GateJUnit(reported(t)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Suites) != 1 || got.XMLName.Local != "testsuites" {
		t.Fatalf("%+v", got)
	}
	s := got.Suites[0]
	if s.Tests != 2 || s.Failures != 1 || len(s.Cases) != 2 {
		t.Fatalf("%+v", s)
	}
	if c := s.Cases[0]; c.Class != "out" || c.Name != `perplexity_ratio max 1.06 on <w>&"|.txt` || c.Failure == nil ||
		c.Failure.Message != "value 1.05 (95 % bound 1.08), limit max 1.06, margin -0.02" || c.Failure.Type != "perplexity_ratio" {
		t.Errorf("%+v %+v", c, c.Failure)
	}
	if c := s.Cases[1]; c.Name != "bytes max 123456789" || c.Failure != nil {
		t.Errorf("%+v", c)
	}
}

func TestGateTextIsATable(t *testing.T) {
	t.Parallel()
	want := `      metric            text        value                   limit          margin
FAIL  perplexity_ratio  <w>&"|.txt  1.05 (95 % bound 1.08)  max 1.06       -0.02
PASS  bytes                         123456789               max 123456789  0
`
	if got := GateText(reported(t)); got != want {
		t.Errorf("%s", got)
	}
}

func TestMarkdownIsATable(t *testing.T) {
	t.Parallel()
	want := `**Accuracy gate: failed** (a\|b, 1 of 2 budgets exceeded)

| | metric | text | value | limit | margin |
|---|---|---|---:|---:|---:|
| FAIL | perplexity_ratio | <w>&"\|.txt | 1.05 (95 % bound 1.08) | max 1.06 | -0.02 |
| PASS | bytes |  | 123456789 | max 123456789 | 0 |
`
	if got := GateMarkdown("a|b", reported(t)); got != want {
		t.Errorf("%s", got)
	}
	if got := GateMarkdown("m", reported(t)[1:]); !strings.HasPrefix(got, "**Accuracy gate: passed** (m, 0 of 1 budgets exceeded)") {
		t.Errorf("%s", got)
	}
}
