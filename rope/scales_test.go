package rope_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"quantize/calibrate"
	"quantize/model"
	"quantize/recipe"
	"quantize/rope"
)

// Two KV heads of six channels, of which four are rotated: pairs (0, 2), (1, 3)
// or, interleaved, (0, 1), (2, 3); channels 4 and 5 stand alone.
var small = rope.Layout{Heads: 4, KVHeads: 2, HeadDim: 6, Rotary: 4, Pairing: model.HalfSplit, Gain: 1}

func keys(p model.Point, absMax []float32, pairMax []float32) *calibrate.SiteStats {
	s := &calibrate.SiteStats{Site: model.Site{Layer: 3, Point: p}, Tokens: 4, AbsMax: absMax, PairMax: pairMax}
	for _, v := range absMax {
		s.SumSq = append(s.SumSq, 4*float64(v)*float64(v)) // every token at the maximum
	}
	return s
}

var near = cmpopts.EquateApprox(1e-15, 0)

func TestPreScalesFormula(t *testing.T) {
	t.Parallel()
	stats := keys(model.KPre,
		[]float32{3, 1, 4, 1, 2, 0, 6, 0, 8, 0, 0, 16},
		[]float32{4, 1, 8, 0})
	interleaved, shared, gain := small, small, small
	interleaved.Pairing = model.Interleaved
	shared.Shared = true
	gain.Gain = 2
	for name, c := range map[string]struct {
		l    rope.Layout
		o    rope.PreOptions
		want []float64
	}{
		"published": {small, rope.PreOptions{Alpha: 8}, []float64{2, 8, 2, 8, 4, 1, 1, 1, 1, 1, 1, 0.5}},
		"interleaved": {
			interleaved,
			rope.PreOptions{Alpha: 8, Exponent: 1},
			[]float64{2, 2, 8, 8, 4, 1, 1, 1, 1, 1, 1, 0.5},
		},
		"root":   {small, rope.PreOptions{Alpha: 16, Exponent: 0.5}, []float64{2, 4, 2, 4, math.Sqrt(8), 1, math.Sqrt2, 1, math.Sqrt2, 1, 1, 1}},
		"shared": {shared, rope.PreOptions{Alpha: 8}, []float64{1, 8, 1, 8, 4, 0.5, 1, 8, 1, 8, 4, 0.5}},
		"gain":   {gain, rope.PreOptions{Alpha: 8}, []float64{1, 4, 1, 4, 4, 1, 0.5, 1, 0.5, 1, 1, 0.5}},
		"mean square": {
			small, rope.PreOptions{Alpha: 10, Statistic: rope.RMSRadius}, // radii 5, √2, 2; 10, 0, 16
			[]float64{2, 10 / math.Sqrt2, 2, 10 / math.Sqrt2, 5, 1, 1, 1, 1, 1, 1, 0.625},
		},
	} {
		got, err := rope.PreScales(c.l, stats, c.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got, near); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Of means as large as can be and small differences from them, the differences count.
func TestPreScalesByDeviation(t *testing.T) {
	t.Parallel()
	stats := keys(model.KPost, make([]float32, 12), make([]float32, 4))
	deviation := []float64{3, 1, 4, 0, 2, 0.5, 6, 0, 8, 0, 0, 16}
	for c, d := range deviation { // half the tokens d above the mean, half below
		mean := float64(100 * c)
		stats.Sum = append(stats.Sum, 4*mean)
		stats.SumSq[c] = 4 * (mean*mean + d*d)
	}
	gain := small
	gain.Gain = 2 // keys after the embedding have it
	for name, l := range map[string]rope.Layout{"plain": small, "gain": gain} {
		got, err := rope.PreScales(l, stats, rope.PreOptions{Alpha: 10, Statistic: rope.Deviation}) // 5, 1, 2, 0.5; 10, 0, 0, 16
		if err != nil {
			t.Fatal(err)
		}
		want := []float64{2, 10, 2, 10, 5, 20, 1, 1, 1, 1, 1, 0.625}
		if diff := cmp.Diff(want, got, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	stats.Site.Point = model.KPre
	if _, err := rope.PreScales(small, stats, rope.PreOptions{Alpha: 10, Statistic: rope.Deviation}); err == nil {
		t.Error("keys before the embedding were taken")
	}
}

func TestSmoothAttentionFormula(t *testing.T) {
	t.Parallel()
	k := keys(model.KPost,
		[]float32{1, 4, 9, 2, 16, 0, 0, 1, 0, 1, 4, 4},
		make([]float32, 4))
	q := keys(model.QPost,
		[]float32{
			1, 1, 1, 1, 1, 1, 2, 1, 4, 1, 16, 1, // two heads that read the first
			4, 1, 1, 0, 1, 1, 1, 0, 9, 1, 1, 25, // two that read the second
		},
		make([]float32, 8))
	for name, c := range map[string]struct {
		o    rope.SmoothAttentionOptions
		want []float64
	}{
		"published":    {rope.SmoothAttentionOptions{Alpha: 0.5}, []float64{1 / 3., 0.5, 1 / 3., 0.5, 0.25, 1, 1, 1, 1, 1, 0.5, 0.5}},
		"with queries": {rope.SmoothAttentionOptions{Alpha: 0.5, Beta: 0.5}, []float64{2 / 3., 0.5, 2 / 3., 0.5, 1, 1, 3, 1, 3, 1, 0.5, 2.5}},
		"nothing":      {rope.SmoothAttentionOptions{}, []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		got, err := rope.SmoothAttentionScales(small, k, q, c.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got, near); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := rope.SmoothAttentionScales(small, k, nil, rope.SmoothAttentionOptions{Alpha: 0.5}); err != nil {
		t.Errorf("queries are not needed: %v", err)
	}
}

func TestPostScalesFormula(t *testing.T) {
	t.Parallel()
	stats := keys(model.KPost,
		[]float32{3, 1, 5, 5, 4, 0, 0, 0, 0, 0, 0, 0},
		make([]float32, 4))
	pre := []float64{2, 3, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9}
	shared := small
	shared.Shared = true
	for name, c := range map[string]struct {
		l    rope.Layout
		topK int
		pre  []float64
		post []float32
		rest []float64
	}{
		"nothing": {small, 0, pre, []float32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, pre},
		"the lower of two equals, with its partner; zeros": {
			small, 1, pre,
			[]float32{10. / 3, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1},
			[]float64{1, 3, 1, 3, 4, 5, 1, 7, 1, 7, 8, 9},
		},
		"a channel without partner": {
			small, 3, pre,
			[]float32{10. / 3, 10, 2, 2, 2.5, 1, 1, 1, 1, 1, 1, 1},
			[]float64{1, 1, 1, 1, 1, 5, 1, 1, 1, 1, 8, 9},
		},
		"without a first stage": {small, 1, nil, []float32{10. / 3, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1}, nil},
		"shared: after the first stage, which stays": { // 6 3 10 15 16 0
			shared, 2, pre,
			[]float32{1, 10. / 3, 1, 10. / 15, 10. / 16, 1, 1, 1, 1, 1, 1, 1},
			pre,
		},
	} {
		before := append([]float64(nil), c.pre...)
		post, rest, err := rope.PostScales(c.l, stats, c.pre, rope.PostOptions{TopK: c.topK, Beta: 10})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.post, post, cmpopts.EquateApprox(1e-7, 0)); diff != "" {
			t.Errorf("%s: post (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(c.rest, rest); diff != "" {
			t.Errorf("%s: rest (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(before, append([]float64(nil), c.pre...)); diff != "" {
			t.Errorf("%s: the argument was changed:\n%s", name, diff)
		}
	}
}

// Both members of a pair among the largest: each is scaled once, by its own
// statistic, and scores stay.
func TestPostScalesDuplicates(t *testing.T) {
	t.Parallel()
	l := rope.Layout{Heads: 2, KVHeads: 1, HeadDim: 4, Rotary: 4, Pairing: model.HalfSplit, Gain: 1}
	stats := keys(model.KPost, []float32{8, 1, 16, 2}, make([]float32, 2))
	post, _, err := rope.PostScales(l, stats, nil, rope.PostOptions{TopK: 2, Beta: 4})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{0.5, 1, 0.25, 1}, post); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	k, q := []float64{-8, 1, 16, 0.5}, []float64{0.25, 3, -2, 1}
	var before, after, twice float64
	for c, f := range post {
		before += q[c] * k[c]
		after += q[c] / float64(f) * (k[c] * float64(f))
		twice += q[c] / float64(f) * (k[c] * float64(f*f)) // an index list with duplicates, multiplied in place
	}
	if after != before || twice == before {
		t.Errorf("score %v, then %v; %v if applied twice to keys", before, after, twice)
	}
}

func TestCachedMax(t *testing.T) {
	t.Parallel()
	k := keys(model.KPost, []float32{1, 2, 4}, nil)
	if diff := cmp.Diff([]float32{6, 8, 4}, rope.CachedMax(k, []float64{2, 1, 0.5}, []float32{3, 4, 2})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(k.AbsMax, rope.CachedMax(k, nil, nil)); diff != "" {
		t.Errorf("nothing scaled (-want +got):\n%s", diff)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	k, post := keys(model.KPre, make([]float32, 12), make([]float32, 4)), keys(model.KPost, make([]float32, 12), make([]float32, 4))
	nan := math.NaN()
	for _, o := range []rope.PreOptions{{}, {Alpha: -1}, {Alpha: nan}, {Alpha: math.Inf(1)}, {Alpha: 8, Exponent: 1.5}, {Alpha: 8, Exponent: -1}, {Alpha: 8, Exponent: nan}, {Alpha: 8, Statistic: 3}} {
		if _, err := rope.PreScales(small, k, o); !errors.Is(err, rope.ErrOption) || !errors.Is(err, recipe.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []rope.SmoothAttentionOptions{{Alpha: -0.1}, {Alpha: 1.1}, {Beta: -0.1}, {Beta: 2}, {Alpha: nan}} {
		if _, err := rope.SmoothAttentionScales(small, post, post, o); !errors.Is(err, rope.ErrOption) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []rope.PostOptions{{TopK: -1, Beta: 1}, {TopK: 7, Beta: 1}, {TopK: 1}, {TopK: 1, Beta: nan}} {
		if _, _, err := rope.PostScales(small, post, nil, o); !errors.Is(err, rope.ErrOption) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestStatisticsAreChecked(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*calibrate.SiteStats{
		"none":         nil,
		"other point":  keys(model.KPost, make([]float32, 12), make([]float32, 4)),
		"other width":  keys(model.KPre, make([]float32, 8), make([]float32, 4)),
		"without pair": keys(model.KPre, make([]float32, 12), nil),
		"no tokens":    {Site: model.Site{Point: model.KPre}, AbsMax: make([]float32, 12), PairMax: make([]float32, 4)},
	} {
		if _, err := rope.PreScales(small, s, rope.PreOptions{Alpha: 8}); !errors.Is(err, calibrate.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := keys(model.KPost, make([]float32, 12), make([]float32, 4))
	if _, err := rope.SmoothAttentionScales(small, k, k, rope.SmoothAttentionOptions{Beta: 1}); !errors.Is(err, calibrate.ErrInvalid) {
		t.Errorf("keys for queries: %v", err)
	}
	if _, _, err := rope.PostScales(small, nil, nil, rope.PostOptions{Beta: 1}); !errors.Is(err, calibrate.ErrInvalid) {
		t.Errorf("no statistics after rotation: %v", err)
	}
}

// Factors that cannot be folded are a bug of the caller.
func TestPrePanicsOnWhatItCannotFold(t *testing.T) {
	t.Parallel()
	plain, normed := newTwin(1, shape("qwen2 biases, tied"), model.HalfSplit), newTwin(1, shape("qwen3 norms"), model.HalfSplit)
	for name, c := range map[string]struct {
		m    *twin
		edit func([]float64) []float64
	}{
		"unequal pair":        {plain, func(s []float64) []float64 { s[1] = 2; return s }},
		"zero":                {plain, func(s []float64) []float64 { s[0], s[4] = 0, 0; return s }},
		"too short":           {plain, func(s []float64) []float64 { return s[1:] }},
		"heads that differ":   {normed, func(s []float64) []float64 { s[0], s[8] = 2, 2; return s }},
		"no number is a pair": {plain, func(s []float64) []float64 { s[0], s[4] = math.NaN(), math.NaN(); return s }},
	} {
		s := make([]float64, c.m.config.KVHeads*c.m.config.HeadDim)
		for i := range s {
			s[i] = 1
		}
		p := rope.NewPre(c.m.config)
		p.ByLayer[0] = c.edit(s)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: folded", name)
				}
			}()
			c.m.weights.Apply(c.m.config, p)
		}()
	}
}
