package recipe

import (
	"errors"
	"testing"

	"quantize/internal/alloc"
)

// What is accepted has a limit for each budget, on one side.
func FuzzDecodeGate(f *testing.F) {
	for _, seed := range []string{
		"budgets:\n- {metric: perplexity_ratio, max: 1.02, text: wiki.txt, confidence: true}\n- {metric: bytes, max: 1_000}\n",
		"budgets:\n- {metric: top1_agreement, max_decrease: 0.5 %}\n- {metric: kl_mean, max_increase: 0.01}\n",
		"budgets:\n- metric: kl_mean\n  max: .nan\n  max_decrease: -1%\n",
		"a: &a [*a, *a]\nb: &b [*a, *a, *a]\nbudgets: [*b, *b, *b]\n",
		"budgets: !!set {? metric}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var g *Gate
		var err error
		if over := alloc.Check(len(data), func() { g, err = DecodeGate("f", data) }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			if !errors.Is(err, ErrGate) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		for _, b := range g.Budgets {
			if side, limit := b.Limit(1); limit != limit || side != "max" && side != "min" || b.Metric.String() == "" || b.Relative() != (b.Allowed() != "") {
				t.Fatalf("accepted: %+v", b)
			}
		}
	})
}

// What is accepted is the same after it is written and read again.
func FuzzDecodeBaseline(f *testing.F) {
	seed, err := accepted().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"baseline_version": 2}`))
	f.Add([]byte(`{"baseline_version": 1, "base_sha256": "", "texts": [{}, {"kl_mean": 1e999}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b *Baseline
		var err error
		if over := alloc.Check(len(data), func() { b, err = DecodeBaseline("f", data) }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			if !errors.Is(err, ErrGate) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		again, err := b.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := DecodeBaseline("again", again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
	})
}
