package eval

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/model/modeltest"
)

// candidate is a tiny random model; noise moves its weights.
func candidate(t *testing.T, noise float32) (Candidate, *modeltest.Checkpoint) {
	t.Helper()
	c := modeltest.Random(7, modeltest.Shapes()[0])
	for _, name := range c.Names() {
		if !strings.Contains(name, "mlp") {
			continue
		}
		for i := range c.Tensors[name].Data {
			c.Tensors[name].Data[i] *= 1 + noise*float32(i%5-2)
		}
	}
	return candidateOf(t, c), c
}

func candidateOf(t *testing.T, c *modeltest.Checkpoint) Candidate {
	t.Helper()
	compute := modeltest.Compute()
	m, err := model.New(c.Parsed(), c.Source(compute), compute)
	if err != nil {
		t.Fatal(err)
	}
	return Candidate{Model: m, Name: "tiny", Arithmetic: "bf16"}
}

const window = 16

func textOf(c Candidate, windows int) []int32 {
	return modeltest.Tokens(3, windows*window+5, c.Model.Config.Vocab)
}

// perplexityOn and compareOn evaluate one text.
func perplexityOn(ctx context.Context, candidates []Candidate, tokens []int32, o Options) ([]Report, error) {
	return first(Perplexity(ctx, candidates, []Text{{Name: "text.txt", Tokens: tokens}}, o))
}

func compareOn(ctx context.Context, base Candidate, candidates []Candidate, tokens []int32, o Options) ([]Report, error) {
	return first(Compare(ctx, base, candidates, []Text{{Name: "text.txt", Tokens: tokens}}, o))
}

func first(reports [][]Report, err error) ([]Report, error) {
	if err != nil {
		return nil, err
	}
	return reports[0], nil
}

// The whole way against float64 logits that share no code with the forward pass.
func TestCompareAgainstFloat64(t *testing.T) {
	t.Parallel()
	base, baseWeights := candidate(t, 0)
	other, otherWeights := candidate(t, 0.05)
	const windows = 3
	tokens := textOf(base, windows)

	var kl, d []float64
	var nllBase, nllOther float64
	same := 0
	for w := range windows {
		text := tokens[w*window : (w+1)*window]
		p := modeltest.Logits(baseWeights.Parsed(), baseWeights.Widen(), text)
		q := modeltest.Logits(otherWeights.Parsed(), otherWeights.Widen(), text)
		for i := range window - 1 {
			lp, lq := logSoftmax64(p[i]), logSoftmax64(q[i])
			sum := 0.0
			for v := range lp {
				sum += math.Exp(lp[v]) * (lp[v] - lq[v])
			}
			kl = append(kl, sum)
			next := text[i+1]
			nllBase, nllOther = nllBase-lp[next], nllOther-lq[next]
			d = append(d, lp[next]-lq[next])
			if slices.Index(lp, slices.Max(lp)) == slices.Index(lq, slices.Max(lq)) {
				same++
			}
		}
	}
	positions := float64(windows * (window - 1))
	slices.Sort(kl)

	got, err := compareOn(t.Context(), base, []Candidate{other}, tokens, Options{Window: window})
	if err != nil {
		t.Fatal(err)
	}
	r := got[0]
	const tolerance = 2e-5 // FP32 activations of a few layers
	near(t, "base perplexity", r.Base.Perplexity, math.Exp(nllBase/positions), tolerance*math.Exp(nllBase/positions))
	near(t, "nll", r.NLL, nllOther/positions, tolerance)
	near(t, "perplexity", r.Perplexity, math.Exp(r.NLL), 1e-9)
	near(t, "kl_mean", r.KLMean, mean(kl), tolerance)
	near(t, "kl_median", r.KLMedian, quantile(kl, 0.5), tolerance)
	near(t, "kl_p999", r.KLP999, quantile(kl, 0.999), tolerance)
	near(t, "top1_agreement", r.Top1Agreement, float64(same)/positions, 0)
	near(t, "ln_ppl_ratio", r.LnPPLRatio, mean(d), tolerance)
	near(t, "ln_ppl_ratio of the perplexities", r.LnPPLRatio, math.Log(r.Perplexity/r.Base.Perplexity), 1e-12)
	if mean(kl) < 1e-3 || same == int(positions) {
		t.Errorf("the candidate is too good to show anything: KL %g, %d of %g agree", mean(kl), same, positions)
	}
	if r.Windows != windows || r.Tokens != windows*window || r.CI95 != nil || r.CI95Bootstrap != nil || len(r.WindowLnRatio) != windows {
		t.Errorf("%d windows, %d tokens, interval %v, %d window ratios", r.Windows, r.Tokens, r.CI95, len(r.WindowLnRatio))
	}
}

func logSoftmax64(x []float64) []float64 {
	peak, sum := slices.Max(x), 0.0
	for _, v := range x {
		sum += math.Exp(v - peak)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v - peak - math.Log(sum)
	}
	return out
}

func TestModelAgainstItself(t *testing.T) {
	t.Parallel()
	base, _ := candidate(t, 0)
	twin, _ := candidate(t, 0)
	got, err := compareOn(t.Context(), base, []Candidate{twin}, textOf(base, 11), Options{Window: window, Windows: 10})
	if err != nil {
		t.Fatal(err)
	}
	r := got[0]
	if r.KLMean > 1e-12 || r.KLP999 > 1e-12 || r.Top1Agreement != 1 || r.LnPPLRatio != 0 {
		t.Errorf("KL %g, p99.9 %g, agreement %g, ratio %g", r.KLMean, r.KLP999, r.Top1Agreement, r.LnPPLRatio)
	}
	for _, ci := range []*[2]float64{r.CI95, r.CI95Bootstrap} {
		if ci == nil || *ci != [2]float64{0, 0} {
			t.Errorf("interval %v, want [0, 0] from ten windows", ci)
		}
	}
}

// The same figures whatever the chunk, the number of workers, and whether heads are shared.
func TestDeterminism(t *testing.T) {
	base, _ := candidate(t, 0)
	other, _ := candidate(t, 0.05)
	tokens := textOf(base, 5)
	eval := func(o Options, id string) []Report {
		base.HeadID, other.HeadID = id, id
		o.Window = window
		got, err := compareOn(t.Context(), base, []Candidate{other, base}, tokens, o)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := eval(Options{}, "")
	timing := cmpopts.IgnoreFields(Result{}, "Seconds", "TokensPerSecond")
	for name, got := range map[string][]Report{
		"a chunk for each window": eval(Options{HiddenBytes: 1}, ""),
		"two windows a chunk":     eval(Options{HiddenBytes: int64(3 * 4 * 2 * window * base.Model.Config.Hidden)}, ""),
		"one head for all":        eval(Options{}, "head"),
		"one worker": func() []Report {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			return eval(Options{}, "")
		}(),
	} {
		if diff := cmp.Diff(want, got, timing); diff != "" {
			t.Errorf("%s changes the result:\n%s", name, diff)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	base, weights := candidate(t, 0)
	vocab := base.Model.Config.Vocab
	tokens := textOf(base, 2)
	outside := slices.Clone(tokens)
	outside[5] = int32(vocab)
	negative := slices.Clone(tokens)
	negative[0] = -1
	wide := modeltest.Shapes()[0]
	wide.Vocab += 8
	widened := candidateOf(t, modeltest.Random(1, wide))
	weights.Tensors["model.norm.weight"].Data[0] = float32(math.NaN())
	broken := candidateOf(t, weights)

	tests := []struct {
		name   string
		base   Candidate
		other  Candidate
		tokens []int32
		o      Options
		want   string
	}{
		{"text below a window", base, base, tokens[:window-1], Options{Window: window}, "at least one window"},
		{"window of one", base, base, tokens, Options{Window: 1}, "trained context"},
		{"negative window", base, base, tokens, Options{Window: -4}, "trained context"},
		{"window beyond the context", base, base, tokens, Options{Window: base.Model.Config.MaxPositions + 1}, "trained context"},
		{"more windows than text", base, base, tokens, Options{Window: window, Windows: 3}, "found 2 windows"},
		{"negative windows", base, base, tokens, Options{Window: window, Windows: -1}, "wanted -1"},
		{"token outside the vocabulary", base, base, outside, Options{Window: window}, "token 5"},
		{"negative token", base, base, negative, Options{Window: window}, "token 0"},
		{"two vocabularies", base, widened, tokens, Options{Window: window}, "vocabulary"},
		{"NaN in the candidate", base, broken, tokens, Options{Window: window}, "window 0, position 0"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := compareOn(t.Context(), tc.base, []Candidate{tc.other}, tc.tokens, tc.o)
			var f *fault.Error
			if !errors.Is(err, ErrInput) || !errors.As(err, &f) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v; want ErrInput that says %q", err, tc.want)
			}
		})
	}
	if _, err := perplexityOn(t.Context(), nil, tokens, Options{}); !errors.Is(err, ErrInput) {
		t.Errorf("no model: %v", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	base, _ := candidate(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := perplexityOn(ctx, []Candidate{base}, textOf(base, 2), Options{Window: window, OnProgress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestProgressRises(t *testing.T) {
	t.Parallel()
	base, _ := candidate(t, 0)
	last := int64(0)
	_, err := compareOn(t.Context(), base, []Candidate{base}, textOf(base, 4), Options{Window: window, HiddenBytes: 1, OnProgress: func(done, total int64) {
		if done < last || done > total {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last = done
	}})
	if err != nil || last != 1000 {
		t.Errorf("ends at %d of 1000, error %v", last, err)
	}
}

// Scripts depend on these keys: more may be added, none renamed.
func TestJSONKeys(t *testing.T) {
	t.Parallel()
	base, _ := candidate(t, 0)
	alone, err := perplexityOn(t.Context(), []Candidate{base}, textOf(base, 2), Options{Window: window})
	if err != nil {
		t.Fatal(err)
	}
	paired, err := compareOn(t.Context(), base, []Candidate{base}, textOf(base, 10), Options{Window: window})
	if err != nil {
		t.Fatal(err)
	}
	own := []string{"model", "text", "window", "windows", "tokens", "nll", "perplexity", "tokens_per_second", "protocol", "arithmetic", "seconds"}
	withBase := append(slices.Clone(own), "base", "kl_mean", "kl_median", "kl_p999", "top1_agreement", "ln_ppl_ratio", "ci95", "ci95_bootstrap", "window_ln_ratio")
	for _, tc := range []struct {
		value any
		want  []string
	}{{alone[0], own}, {paired[0], withBase}, {paired[0].Base, own}} {
		data, err := json.Marshal(tc.value)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := json.Unmarshal(data, &object); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(tc.want)), slices.Sorted(maps.Keys(object))); diff != "" {
			t.Error(diff)
		}
	}
}

func TestProtocolLine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		window, context int
		bos             bool
		o               Options
		want            []string
	}{
		{2048, 8192, true, Options{}, []string{"windows of 2048", "min(2048, trained context 8192)", "one BOS", "all windows", "2047 next tokens"}},
		{512, 512, false, Options{Windows: 20}, []string{"windows of 512 tokens (min(2048, trained context 512))", "no BOS", "the first 20"}},
		{256, 8192, false, Options{}, []string{"windows of 256 tokens (chosen; the protocol has min(2048"}},
	} {
		got := protocol(tc.window, tc.context, tc.bos, tc.o)
		for _, part := range tc.want {
			if !strings.Contains(got, part) {
				t.Errorf("%q does not say %q", got, part)
			}
		}
	}
}
