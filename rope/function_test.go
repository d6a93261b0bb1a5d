package rope_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/rope"
	"quantize/tensor"
)

var ways = []way{
	{name: "pre", fireq: &rope.PreOptions{Alpha: 8}},
	{name: "pre, root of the maximum", fireq: &rope.PreOptions{Alpha: 8, Exponent: 0.5}},
	{name: "pre, mean square", fireq: &rope.PreOptions{Alpha: 3, Statistic: rope.RMSRadius}},
	{name: "smooth attention", smooth: &rope.SmoothAttentionOptions{Alpha: 0.5}},
	{name: "smooth attention with queries", smooth: &rope.SmoothAttentionOptions{Alpha: 0.7, Beta: 0.4}},
	{name: "post", post: &rope.PostOptions{TopK: 2, Beta: 5}},
	{name: "pre and post", fireq: &rope.PreOptions{Alpha: 8}, post: &rope.PostOptions{TopK: 2, Beta: 5}},
	{name: "smooth attention and post", smooth: &rope.SmoothAttentionOptions{Alpha: 0.5}, post: &rope.PostOptions{TopK: 1, Beta: 5}},
	{name: "post on every channel", fireq: &rope.PreOptions{Alpha: 8}, post: &rope.PostOptions{TopK: 4, Beta: 5}},
}

// Law 1: no way of scaling changes the logits.
func TestScalingPreservesTheFunction(t *testing.T) {
	t.Parallel()
	everyModel(t, func(t *testing.T, m *twin) {
		stats := m.statistics()
		fresh := modeltest.Tokens(99, 11, m.config.Vocab) // not what the scales were made from
		want := modeltest.Logits(m.config, m.weights, fresh)
		for _, w := range ways {
			p := m.build(t, stats, w)
			if d := farthest(m.logits(p, fresh), want); d > 1e-9 {
				t.Errorf("%s: logits differ by %g", w.name, d)
			}
			if !scales(p) {
				t.Errorf("%s: nothing is scaled", w.name)
			}
		}
	})
}

func scales(p plan) bool {
	for layer, pre := range p.pre.ByLayer {
		for _, f := range pre {
			if f != 1 {
				return true
			}
		}
		if p.post == nil {
			continue
		}
		for _, f := range p.post[layer] {
			if f != 1 {
				return true
			}
		}
	}
	return false
}

// unfolded does what [rope.Pre] must not: row by row, any factors, any map of
// query heads.
type unfolded struct {
	model.BlocksOnly
	m       *twin
	factors []float64
	kv      func(head int) int
}

func (u unfolded) Block(_ int, p model.Params) {
	d := u.m.config.HeadDim
	for _, l := range u.m.config.Arch.Linears {
		if l.Role != model.RoleQ && l.Role != model.RoleK {
			continue
		}
		weight, bias := p.Weight(l.Name), p.Bias(l.Name)
		for row := range weight.Rows {
			f := u.factors[row%len(u.factors)]
			if l.Role == model.RoleQ {
				f = 1 / u.factors[u.kv(row/d)*d+row%d]
			}
			for j := range weight.Row(row) {
				weight.Row(row)[j] *= f
			}
			if bias != nil {
				bias[row] *= f
			}
		}
	}
}

// Negative controls: the check above sees factors that differ within a pair,
// and queries that take those of another KV head.
func TestWrongScalingIsSeen(t *testing.T) {
	t.Parallel()
	m := newTwin(7, shape("qwen2 biases, tied"), model.HalfSplit) // qwen2: 4 heads on 2, biases
	want := modeltest.Logits(m.config, m.weights, m.windows[0])
	d, group := m.config.HeadDim, m.config.Heads/m.config.KVHeads
	right := func(head int) int { return head / group }
	equal := make([]float64, 2*d) // equal within pairs, unlike between heads
	for c := range equal {
		equal[c] = 1 + float64(c%(d/2)) + 7*float64(c/d)
	}
	unequal := append([]float64(nil), equal...)
	unequal[1] *= 1.5
	for name, c := range map[string]struct {
		u    unfolded
		fine bool
	}{
		"right":         {unfolded{m: m, factors: equal, kv: right}, true},
		"unequal pair":  {unfolded{m: m, factors: unequal, kv: right}, false},
		"another head":  {unfolded{m: m, factors: equal, kv: func(head int) int { return head % 2 }}, false},
		"other pairing": {unfolded{m: newTwin(7, shape("qwen2 biases, tied"), model.Interleaved), factors: equal, kv: right}, false},
	} {
		of := c.u.m
		moved, cfg := of.weights.Apply(of.config, c.u)
		base := want
		if of != m {
			base = modeltest.Logits(of.config, of.weights, of.windows[0])
		}
		if d := farthest(modeltest.Logits(cfg, moved, of.windows[0]), base); (d <= 1e-9) != c.fine || !c.fine && d < 1e-3 {
			t.Errorf("%s: logits differ by %g", name, d)
		}
	}
}

// rope(diag(s) k) = diag(s) rope(k) for factors that are equal within pairs, and
// not for others.
func TestPairEqualFactorsCommute(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	for _, pairing := range []model.Pairing{model.HalfSplit, model.Interleaved} {
		m := newTwin(1, shape("llama tied, 4 queries a key"), pairing)
		d := m.config.HeadDim
		for range 200 {
			k, s := make([]float64, d), make([]float64, d)
			for c := range k {
				k[c] = rng.NormFloat64()
			}
			for _, p := range pairing.Pairs(d) {
				f := math.Exp(rng.NormFloat64())
				s[p[0]], s[p[1]] = f, f
			}
			position := float64(rng.IntN(1 << 17))
			apart := func(s []float64) float64 {
				before, after := append([]float64(nil), k...), append([]float64(nil), k...)
				m.turn(after, position)
				most := 0.0
				for c := range before {
					before[c] *= s[c]
				}
				m.turn(before, position)
				for c := range before {
					most = max(most, math.Abs(before[c]-s[c]*after[c])/s[c])
				}
				return most
			}
			if e := apart(s); e > 1e-14 {
				t.Fatalf("pairing %d, position %v: %g apart", pairing, position, e)
			}
			s[2] *= 1.25
			if e := apart(s); position > 0 && e < 1e-12 {
				t.Fatalf("pairing %d, position %v: unequal factors commute", pairing, position)
			}
		}
	}
}

// The same through the parts that a run uses: observed statistics, weights
// folded and rounded to FP32, the model's own forward pass.
func TestFoldedForwardPass(t *testing.T) {
	t.Parallel()
	everyModel(t, func(t *testing.T, m *twin) {
		of := func(src model.Source, transforms ...model.Transform) *model.Model {
			f, err := model.Fold(m.config, src, modeltest.Compute(), transforms...)
			if err != nil {
				t.Fatal(err)
			}
			fast, err := model.New(f.Config(), f, modeltest.Compute())
			if err != nil {
				t.Fatal(err)
			}
			return fast
		}
		source := m.source.Source(modeltest.Compute())
		observed, err := calibrate.Collect(t.Context(), of(source), m.windows, calibrate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		exact := m.statistics()
		for i := range exact.Sites {
			want := &exact.Sites[i]
			got := observed.Site(want.Site)
			// Keys cancel: they are known to the roundings, about 30 in two blocks, of the largest.
			limit := 30 * 0x1p-24 * float64(slices.Max(want.PairMax))
			for p, r := range want.PairMax {
				if d := math.Abs(float64(got.PairMax[p] - r)); d > limit {
					t.Errorf("%v: radius %d is %v, want %v", want.Site, p, got.PairMax[p], r)
				}
			}
		}
		p := m.build(t, observed, ways[0])
		fast := of(source, p.pre)
		hidden, err := fast.Stream(t.Context(), m.windows[:1], model.StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		head, err := fast.Head()
		if err != nil {
			t.Fatal(err)
		}
		logits := tensor.NewMatrix(hidden[0].Rows, m.config.Vocab)
		head.Logits(logits, hidden[0])
		got := make([][]float64, logits.Rows)
		for i := range got {
			for _, v := range logits.Row(i) {
				got[i] = append(got[i], float64(v))
			}
		}
		if d := farthest(got, modeltest.Logits(m.config, m.weights, m.windows[0])); d > 1e-5 {
			t.Errorf("logits differ by %g", d)
		}
	})
}
