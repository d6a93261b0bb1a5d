package recipe

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/internal/fault"
)

func accepted() *Baseline {
	sum := strings.Repeat("0f", 32)
	return &Baseline{
		Model: "out", Arithmetic: "lut", Base: "SmolLM2 <135M> & \"x\"\u2028é", BaseSum: sum, Bytes: 123456789012,
		Texts: []BaselineText{
			{Text: "a b.txt", TokensSum: sum, Window: 2048, Windows: 20, Perplexity: new(13.7), PerplexityRatio: new(1.02), KLMean: new(1e-9), KLMedian: new(1e-10), KLP999: new(3e21), Top1Agreement: new(0.9)},
			{Text: "yes", TokensSum: sum, Window: 2, Windows: 1, Perplexity: new(1.0), PerplexityRatio: new(0.1), KLMean: new(0.0)},
		},
	}
}

func TestBaselineIsReadBack(t *testing.T) {
	t.Parallel()
	want := accepted()
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBaseline("b.json", data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, tc := range []struct {
		metric Metric
		text   string
		want   float64
		ok     bool
	}{{Bytes, "", 123456789012, true}, {KLMean, "a b.txt", 1e-9, true}, {KLMedian, "a b.txt", 1e-10, true}, {PerplexityRatio, "yes", 0.1, true}, {KLMean, "yes", 0, true}, {KLP999, "yes", 0, false}, {KLMean, "other", 0, false}} {
		if v, ok := got.Value(tc.metric, tc.text); v != tc.want || ok != tc.ok {
			t.Errorf("%v on %q: %g, %v", tc.metric, tc.text, v, ok)
		}
	}
}

func TestBaselineThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	b := accepted()
	b.Texts[0].KLMean = new(math.NaN())
	if _, err := b.Encode(); !errors.Is(err, ErrGate) {
		t.Errorf("got %v", err)
	}
}

// A value that is missing is named where a budget is measured from it, and only there.
func TestBaselineCovers(t *testing.T) {
	t.Parallel()
	b := accepted()
	relative := func(m Metric, text string) Budget {
		return Budget{Metric: m, MaxIncrease: &Change{Amount: 1, Percent: true}, Text: text}
	}
	for _, tc := range []struct {
		name   string
		budget Budget
		texts  []string
		want   string
	}{
		{"all there", relative(KLMean, ""), []string{"a b.txt", "yes"}, ""},
		{"missing", relative(KLP999, ""), []string{"a b.txt", "yes"}, "b.json: text yes: invalid gate: found no kl_p999, wanted the value that budgets.0 is"},
		{"missing, of its text", relative(Top1Agreement, "yes"), []string{"yes"}, "no top1_agreement"},
		{"of another text", relative(KLP999, "a b.txt"), []string{"a b.txt", "yes"}, ""},
		{"not evaluated", relative(KLP999, ""), []string{"a b.txt"}, ""},
		{"a text that is new", relative(KLP999, ""), []string{"new"}, ""},
		{"bytes", relative(Bytes, ""), []string{"yes"}, ""},
		{"not relative", Budget{Metric: KLP999, Max: new(1.0)}, []string{"yes"}, ""},
	} {
		err := b.Covers("b.json", []Budget{tc.budget}, tc.texts)
		if tc.want == "" && err == nil {
			continue
		}
		if tc.want == "" || !errors.Is(err, ErrGate) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestDecodeBaselineRefuses(t *testing.T) {
	t.Parallel()
	data, err := accepted().Encode()
	if err != nil {
		t.Fatal(err)
	}
	sound := string(data)
	for _, tc := range []struct{ name, from, to, where, want string }{
		{"another version", `"baseline_version": 1`, `"baseline_version": 2`, "b.json:2 (baseline_version)", "found 2, wanted 1"},
		{"unknown field", `"model"`, `"modell"`, "b.json:3", "modell"},
		{"repeated field", `"model": "out",`, `"model": "out", "model": "a",`, "b.json:3", "model"},
		{"a number in words", `"perplexity": 13.7`, `"perplexity": "low"`, "b.json:14", "low"},
		{"a perplexity that is none", `"perplexity": 13.7`, `"perplexity": 0.7`, "b.json:14 (texts.0.perplexity)", "at least 1"},
		{"no ratio", `"perplexity_ratio": 1.02`, `"perplexity_ratio": 0`, "b.json:15 (texts.0.perplexity_ratio)", "positive"},
		{"a value below nothing", `"kl_p999": 3e+21`, `"kl_p999": -1`, "b.json:18 (texts.0.kl_p999)", "negative"},
		{"a sum that is none", `"base_sha256": "0f`, `"base_sha256": "XX`, "b.json:6 (base_sha256)", "hexadecimal"},
		{"no size", `"bytes": 123456789012`, `"bytes": 0`, "b.json:7 (bytes)", "positive"},
		{"no reading", `"arithmetic": "lut"`, `"arithmetic": ""`, "b.json:4 (arithmetic)", "lut"},
		{"no windows", `"windows": 20`, `"windows": 0`, "b.json:13 (texts.0.windows)", "positive"},
		{"a text twice", `"text": "yes"`, `"text": "a b.txt"`, "b.json:22 (texts.1.text)", "apart"},
		{"no JSON", `{`, `{{`, "b.json", ""},
	} {
		_, err := DecodeBaseline("b.json", []byte(strings.Replace(sound, tc.from, tc.to, 1)))
		var f *fault.Error
		if !errors.Is(err, ErrGate) || !errors.As(err, &f) || !strings.HasPrefix(f.Where, tc.where) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := LoadBaseline(t.TempDir() + "/none.json"); !errors.Is(err, ErrGate) || !strings.Contains(err.Error(), "--write-baseline") {
		t.Errorf("got %v", err)
	}
}
