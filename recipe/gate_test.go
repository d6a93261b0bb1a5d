package recipe

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/internal/fault"
)

func TestDecodeGate(t *testing.T) {
	t.Parallel()
	g, err := DecodeGate("g.yaml", []byte(`budgets:
- {metric: perplexity_ratio, max: 1.02, text: wiki.txt, confidence: true}
- {metric: top1_agreement, min: 0.9}
- {metric: bytes, max: 1_000}
- {metric: kl_mean, max_increase: 0.01}
- {metric: bytes, max_increase: 1%}
- {metric: top1_agreement, max_decrease: 0.5 %}
`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(v float64) *float64 { return &v }
	want := &Gate{Budgets: []Budget{
		{Metric: PerplexityRatio, Max: at(1.02), Text: "wiki.txt", Confidence: true},
		{Metric: Top1Agreement, Min: at(0.9)},
		{Metric: Bytes, Max: at(1000)},
		{Metric: KLMean, MaxIncrease: &Change{Amount: 0.01}},
		{Metric: Bytes, MaxIncrease: &Change{Amount: 1, Percent: true}},
		{Metric: Top1Agreement, MaxDecrease: &Change{Amount: 0.5, Percent: true}},
	}}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeGateRefuses(t *testing.T) {
	t.Parallel()
	const head = "budgets:\n- metric: kl_mean\n"
	for _, tc := range []struct{ name, yaml, where, want string }{
		{"unknown field", head + "  maximum: 1\n", "g.yaml:3", "maximum"},
		{"unknown field hints at the fields", head + "  maximum: 1\n", "g.yaml:3", "max, min, max_increase"},
		{"unknown field above", "limits: []\n", "g.yaml:1", "limits"},
		{"repeated field", head + "  max: 1\n  max: 2\n", "g.yaml:4", "max"},
		{"unknown metric", "budgets:\n- metric: ppl\n  max: 1\n", "g.yaml:2 (metric)", "kl_mean, kl_median, kl_p999, top1_agreement or bytes"},
		{"no metric", "budgets:\n- max: 1\n", "g.yaml:2 (budgets.0.metric)", "found nothing"},
		{"both limits", head + "  max: 1\n  min: 0\n", "g.yaml:2 (budgets.0)", "max and min"},
		{"no limit", head + "- {metric: bytes, max: 1}\n", "g.yaml:2 (budgets.0)", "no limit"},
		{"limit without a value", head + "  max:\n", "g.yaml:2 (budgets.0)", "no limit"},
		{"limit that is no number", head + "  max: .nan\n", "g.yaml:3 (budgets.0.max)", "finite"},
		{"limit without end", head + "  max: .inf\n", "g.yaml:3 (budgets.0.max)", "finite"},
		{"limit in words", head + "  max: low\n", "g.yaml:3", "low"},
		{"limit and change", head + "  max: 1\n  max_increase: 1%\n", "g.yaml:2 (budgets.0)", "max and max_increase"},
		{"change in words", head + "  max_increase: little\n", "g.yaml:3 (max_increase", "1%"},
		{"change below nothing", head + "  max_increase: -1%\n", "g.yaml:3 (budgets.0.max_increase)", "negative"},
		{"change without end", head + "  max_decrease: .inf\n", "g.yaml:3", "number"},
		{"change that is no number", head + "  max_decrease: NaN\n", "g.yaml:3 (budgets.0.max_decrease)", "finite"},
		{"a share in per cent", "budgets:\n- metric: top1_agreement\n  min: 99\n", "g.yaml:3 (budgets.0.min)", "0.99"},
		{"confidence of a divergence", head + "  max: 1\n  confidence: true\n", "g.yaml:4 (budgets.0.confidence)", "perplexity_ratio"},
		{"text of a size", "budgets:\n- metric: bytes\n  max: 1\n  text: a\n", "g.yaml:4 (budgets.0.text)", "remove"},
		{"text in a directory", head + "  max: 1\n  text: ./one.txt\n", "g.yaml:4 (budgets.0.text)", "found \"./one.txt\", wanted a file name without directories"},
		{"text in a directory of Windows", head + "  max: 1\n  text: texts\\one.txt\n", "g.yaml:4 (budgets.0.text)", "without directories"},
		{"no budgets", "budgets: []\n", "g.yaml:1 (budgets)", "at least one"},
		{"empty file", "", "g.yaml", ""},
		{"not YAML", "budgets: [", "g.yaml", ""},
		{"too large", strings.Repeat("#", maxBytes+1), "g.yaml", "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g, err := DecodeGate("g.yaml", []byte(tc.yaml))
			var f *fault.Error
			if !errors.Is(err, ErrGate) || errors.Is(err, ErrInvalid) || !errors.As(err, &f) {
				t.Fatalf("got %v, %v", g, err)
			}
			if !strings.HasPrefix(f.Where, tc.where) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("where %q, want %q; %v does not say %q", f.Where, tc.where, err, tc.want)
			}
		})
	}
}

func TestLoadGateWithoutAFile(t *testing.T) {
	t.Parallel()
	if _, err := LoadGate(t.TempDir() + "/none.yaml"); !errors.Is(err, ErrGate) {
		t.Errorf("got %v", err)
	}
}
