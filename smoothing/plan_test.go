package smoothing

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// subject is a tiny model with statistics of all its sites.
type subject struct {
	cfg     *model.Config
	made    *modeltest.Checkpoint
	windows [][]int32
	stats   *calibrate.Stats
}

// observed makes a checkpoint with outliers in the norms, as large models have
// them, and runs three windows through it.
func observed(t testing.TB, seed uint64, shape modeltest.Shape) *subject {
	t.Helper()
	c := modeltest.Random(seed, shape)
	cfg := c.Parsed()
	for _, e := range model.Tensors(cfg) {
		if d := c.Tensors[e.Name].Data; e.Kind == model.KindNorm && e.Layer >= 0 && e.Shape[0] == cfg.Hidden {
			d[3] *= 16
			d[cfg.Hidden-2] *= 8
			d[5] /= 16
		}
	}
	s := &subject{cfg: cfg, made: c, windows: calibrate.Windows(modeltest.Tokens(seed, 60, cfg.Vocab), 20, 0, 0)}
	m, err := model.New(cfg, c.Source(modeltest.Compute()), modeltest.Compute())
	if err != nil {
		t.Fatal(err)
	}
	if s.stats, err = calibrate.Collect(t.Context(), m, s.windows, calibrate.Options{Hessians: calibrate.LinearInputs}); err != nil {
		t.Fatal(err)
	}
	return s
}

// block returns the tensors of a layer after transforms.
func (s *subject) block(t testing.TB, layer int, transforms ...model.Transform) model.Params {
	t.Helper()
	f, err := model.Fold(s.cfg, s.made.Source(modeltest.Compute()), modeltest.Compute(), transforms...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Block(layer)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *subject) hessians(layer int) map[model.Point]*calibrate.Hessian {
	h := map[model.Point]*calibrate.Hessian{}
	for i := range s.stats.Sites {
		if site := &s.stats.Sites[i]; site.Site.Layer == layer && site.Hessian != nil {
			h[site.Site.Point] = site.Hessian
		}
	}
	return h
}

// plan sets every layer to what scales makes of its block.
func (s *subject) plan(t testing.TB, scales func(layer int, p model.Params) ([]FeedScale, error)) *Plan {
	t.Helper()
	plan := NewPlan(s.cfg)
	for layer := range s.cfg.Layers {
		p := s.block(t, layer)
		before := cloned(p)
		made, err := scales(layer, p)
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range before {
			if !slices.Equal(w.Data, p[name].Data) {
				t.Fatalf("layer %d: %s was changed", layer, name)
			}
		}
		if err := plan.Set(layer, made); err != nil {
			t.Fatal(err)
		}
	}
	return plan
}

func cloned(p model.Params) model.Params {
	out := model.Params{}
	for name, w := range p {
		out[name] = &model.Param{Rows: w.Rows, Cols: w.Cols, Data: slices.Clone(w.Data)}
	}
	return out
}

// moved is how far logits are from those of the model before transforms,
// relative to their range.
func (s *subject) moved(transforms ...model.Transform) float64 {
	tokens := s.windows[0]
	want := modeltest.Logits(s.cfg, s.made.Widen(), tokens)
	weights, cfg := s.made.Widen().Apply(s.cfg, transforms...)
	low, high, most := math.Inf(1), math.Inf(-1), 0.0
	for i, row := range modeltest.Logits(cfg, weights, tokens) {
		for j, v := range row {
			low, high = min(low, want[i][j]), max(high, want[i][j])
			most = max(most, math.Abs(v-want[i][j]))
		}
	}
	return most / (high - low)
}

// int4 rounds groups of a row to -7..7 times amax/7.
func int4(group int) Fake {
	return func(dst, w tensor.Matrix) error {
		for i := range w.Rows {
			out := dst.Row(i)
			for row := w.Row(i); len(row) > 0; row, out = row[min(group, len(row)):], out[min(group, len(row)):] {
				top := float32(0)
				for _, v := range row[:min(group, len(row))] {
					top = max(top, float32(math.Abs(float64(v))))
				}
				for j, v := range row[:min(group, len(row))] {
					out[j] = 0
					if top > 0 {
						out[j] = top / 7 * float32(math.RoundToEven(float64(7*v/top)))
					}
				}
			}
		}
		return nil
	}
}

var allPairs = []model.Point{model.AttnIn, model.OIn, model.MLPIn, model.DownIn}

func everyPair(pair FireQPair) map[model.Point]FireQPair {
	pairs := map[model.Point]FireQPair{}
	for _, p := range allPairs {
		pairs[p] = pair
	}
	return pairs
}

// Every method, on every architecture, leaves the function alone and does change
// v and o, where grouped queries can go wrong.
func TestPlansPreserveTheFunction(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		t.Run(shape.Name, func(t *testing.T) {
			t.Parallel()
			s := observed(t, 5, shape)
			objective := func(layer int) *Objective { return &Objective{Hessians: s.hessians(layer), Fake: int4(8)} }
			fireQ := func(o FireQOptions) func(int, model.Params) ([]FeedScale, error) {
				return func(layer int, p model.Params) ([]FeedScale, error) {
					o.Objective = objective(layer)
					return FireQ(s.cfg, layer, p, o)
				}
			}
			smoothQuant := func(o SmoothQuantOptions) func(int, model.Params) ([]FeedScale, error) {
				return func(layer int, p model.Params) ([]FeedScale, error) {
					o.Objective = objective(layer)
					return SmoothQuant(s.cfg, layer, p, s.stats, o)
				}
			}
			awq := func(o AWQOptions) func(int, model.Params) ([]FeedScale, error) {
				return func(layer int, p model.Params) ([]FeedScale, error) {
					scales, _, err := AWQ(s.cfg, layer, p, s.stats, s.hessians(layer), int4(8), o)
					return scales, err
				}
			}
			methods := []struct {
				name   string
				scales func(int, model.Params) ([]FeedScale, error)
			}{
				{"fireq none", fireQ(FireQOptions{Statistic: StatisticNone, Pairs: everyPair(FireQPair{Level: 0.7})})},
				{"fireq max", fireQ(FireQOptions{Statistic: StatisticMax, Pairs: everyPair(FireQPair{Level: 0.05})})},
				{"fireq mean", fireQ(FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto})})},
				{"fireq mean, root", fireQ(FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto, Exponent: 0.5})})},
				{"fireq mean, searched", fireQ(FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto, Search: true})})},
				{"smoothquant", smoothQuant(SmoothQuantOptions{Alpha: 0.5, Pairs: allPairs})},
				{"smoothquant, searched", smoothQuant(SmoothQuantOptions{Alphas: []float64{0.3, 0.6}, Pairs: allPairs})},
				{"awq", awq(AWQOptions{})},
				{"awq duo", awq(AWQOptions{Ratios: 4, DuoGroup: 8})},
			}
			for _, m := range methods {
				plan := s.plan(t, m.scales)
				if d := s.moved(plan); d > 1e-9 {
					t.Errorf("%s: logits moved by %g", m.name, d)
				}
				if strings.Contains(m.name, "searched") || strings.Contains(m.name, "awq") {
					continue // may leave a feed alone
				}
				if fs := plan.Layer(1); len(fs) != len(s.cfg.Feeds(1)) || slices.Max(fs[1].S) == 1 && slices.Min(fs[1].S) == 1 {
					t.Errorf("%s: scales of %d feeds, or v left alone", m.name, len(fs))
				}
			}
		})
	}
}

// The controls: what breaks the function must be seen to.
func TestWrongPlansBreakTheFunction(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		s := observed(t, 6, shape)
		plan := s.plan(t, func(layer int, p model.Params) ([]FeedScale, error) {
			return FireQ(s.cfg, layer, p, FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto})})
		})
		if g := s.cfg.Heads / s.cfg.KVHeads; g > 1 {
			if d := s.moved(publishedOV{group: g}); d < 1e-3 {
				t.Errorf("%s: averaging %d columns side by side moved logits by %g only", shape.Name, g, d)
			}
		}
		if s.made.Tensors["model.layers.0.self_attn.v_proj.bias"].Data != nil {
			if d := s.moved(forgetful{plan}); d < 1e-3 {
				t.Errorf("%s: leaving biases alone moved logits by %g only", shape.Name, d)
			}
		}
	}
}

// publishedOV is the map of the authors' code: one scale for columns of o that
// lie side by side.
type publishedOV struct {
	model.BlocksOnly
	group int
}

func (o publishedOV) Block(_ int, p model.Params) {
	v, out := p.Weight("self_attn.v_proj"), p.Weight("self_attn.o_proj")
	mean := (&smoothed{params: p}).magnitudes([]string{"self_attn.o_proj"}, out.Cols).mean
	scales := make([]float64, v.Rows)
	for j, stat := range mean {
		scales[j/o.group] += 0.1 / stat / float64(o.group)
	}
	divide(p, FeedScale{From: "self_attn.v_proj", S: scales})
	for i := range out.Rows {
		for j := range out.Row(i) {
			out.Row(i)[j] *= scales[j/o.group]
		}
	}
}

// forgetful is a plan that does not know of biases.
type forgetful struct{ *Plan }

func (f forgetful) Block(layer int, p model.Params) {
	weights := model.Params{}
	for name, w := range p {
		if strings.HasSuffix(name, ".weight") {
			weights[name] = w
		}
	}
	f.Plan.Block(layer, weights)
}

// Any positive scales preserve the function, and composing plans is applying one
// after the other.
func TestRandomPlans(t *testing.T) {
	t.Parallel()
	shapes := modeltest.Shapes()
	subjects := make([]*subject, len(shapes))
	for i, shape := range shapes {
		subjects[i] = observed(t, 7, shape)
	}
	rapid.Check(t, func(r *rapid.T) {
		s := rapid.SampledFrom(subjects).Draw(r, "model")
		draw := func(name string) *Plan {
			plan := NewPlan(s.cfg)
			for layer := range s.cfg.Layers {
				var scales []FeedScale
				for _, f := range s.cfg.Feeds(layer) {
					if n := wiresOf(s.cfg, layer, f).channels(); rapid.Bool().Draw(r, name) {
						scales = append(scales, FeedScale{From: f.From, S: rapid.SliceOfN(rapid.Float64Range(0.01, 100), n, n).Draw(r, name)})
					}
				}
				if err := plan.Set(layer, scales); err != nil {
					r.Fatal(err)
				}
			}
			return plan
		}
		a, b := draw("a"), draw("b")
		both, err := Compose(a, b)
		if err != nil {
			r.Fatal(err)
		}
		if d := s.moved(a, b); d > 1e-9 {
			r.Fatalf("one after the other: logits moved by %g", d)
		}
		if d := s.moved(both); d > 1e-9 {
			r.Fatalf("composed: logits moved by %g", d)
		}
		for layer := range s.cfg.Layers {
			once, twice := s.block(t, layer, both), s.block(t, layer, a, b)
			for name, w := range once {
				for i, v := range w.Data {
					if got := twice[name].Data[i]; math.Abs(got-v) > 8*0x1p-53*math.Abs(v) { // five roundings on either way
						r.Fatalf("layer %d, %s: %v composed, %v one after the other", layer, name, v, got)
					}
				}
			}
		}
	})
}

func TestSetRefuses(t *testing.T) {
	t.Parallel()
	s := modeltest.Random(1, modeltest.Shapes()[0])
	cfg := s.Parsed()
	ones := func(n int, edit ...float64) []float64 {
		return append(slices.Repeat([]float64{1}, n-len(edit)), edit...)
	}
	const norm, v = "input_layernorm", "self_attn.v_proj"
	for name, c := range map[string]struct {
		layer  int
		scales []FeedScale
	}{
		"no such layer":       {layer: cfg.Layers},
		"negative layer":      {layer: -1},
		"not a producer":      {scales: []FeedScale{{From: "self_attn.q_proj", S: ones(cfg.Hidden)}}},
		"twice":               {scales: []FeedScale{{From: norm, S: ones(cfg.Hidden)}, {From: norm, S: ones(cfg.Hidden)}}},
		"as many as queries":  {scales: []FeedScale{{From: v, S: ones(cfg.Heads * cfg.HeadDim)}}},
		"nothing":             {scales: []FeedScale{{From: norm}}},
		"zero":                {scales: []FeedScale{{From: norm, S: ones(cfg.Hidden, 0)}}},
		"negative":            {scales: []FeedScale{{From: norm, S: ones(cfg.Hidden, -1)}}},
		"not a number":        {scales: []FeedScale{{From: norm, S: ones(cfg.Hidden, math.NaN())}}},
		"infinite":            {scales: []FeedScale{{From: norm, S: ones(cfg.Hidden, math.Inf(1))}}},
		"inverse is infinite": {scales: []FeedScale{{From: norm, S: ones(cfg.Hidden, 0x1p-1074)}}},
	} {
		plan := NewPlan(cfg)
		if err := plan.Set(c.layer, c.scales); !errors.Is(err, ErrScale) {
			t.Errorf("%s: %v", name, err)
		}
		if len(plan.Layer(0)) > 0 {
			t.Errorf("%s: was set", name)
		}
	}
	if _, err := VMul(cfg, 0); !errors.Is(err, ErrScale) {
		t.Errorf("v_mul 0: %v", err)
	}
	wide := NewPlan(cfg)
	if err := wide.Set(0, []FeedScale{{From: norm, S: ones(cfg.Hidden, 1e300)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Compose(wide, wide); !errors.Is(err, ErrScale) {
		t.Errorf("1e600: %v", err)
	}
}

// The plan keeps its own copy, and layers are set while others are folded (for
// the race detector).
func TestPlanIsFilledWhileItIsUsed(t *testing.T) {
	t.Parallel()
	s := observed(t, 8, modeltest.Shapes()[1])
	plan := NewPlan(s.cfg)
	given := slices.Repeat([]float64{2}, s.cfg.Hidden)
	if err := plan.Set(0, []FeedScale{{From: "input_layernorm", S: given}}); err != nil {
		t.Fatal(err)
	}
	given[0] = 100
	var group sync.WaitGroup
	group.Go(func() {
		for range 20 {
			if err := plan.Set(1, []FeedScale{{From: "mlp.up_proj", S: slices.Repeat([]float64{3}, s.cfg.Intermediate)}}); err != nil {
				t.Error(err)
			}
		}
	})
	before := s.block(t, 0)
	after := s.block(t, 0, plan)
	group.Wait()
	for i, v := range before.Weight("self_attn.k_proj").Data {
		if got := after.Weight("self_attn.k_proj").Data[i]; got != 2*v {
			t.Fatalf("element %d is %v, wanted %v", i, got, 2*v)
		}
	}
	for i, v := range before.Weight("input_layernorm").Data {
		if got := after.Weight("input_layernorm").Data[i]; got != v/2 {
			t.Fatalf("norm %d is %v, wanted %v", i, got, v/2)
		}
	}
}

// The Hessian of scaled activations is the scaled Hessian.
func TestHessianFollowsThePlan(t *testing.T) {
	t.Parallel()
	s := observed(t, 9, modeltest.Shapes()[6])
	plan := s.plan(t, func(layer int, p model.Params) ([]FeedScale, error) {
		return SmoothQuant(s.cfg, layer, p, s.stats, SmoothQuantOptions{Alpha: 0.5, Pairs: allPairs})
	})
	f, err := model.Fold(s.cfg, s.made.Source(modeltest.Compute()), modeltest.Compute(), plan)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.New(f.Config(), f, modeltest.Compute())
	if err != nil {
		t.Fatal(err)
	}
	after, err := calibrate.Collect(t.Context(), m, s.windows, calibrate.Options{Hessians: calibrate.LinearInputs})
	if err != nil {
		t.Fatal(err)
	}
	for layer := range s.cfg.Layers {
		for point, h := range s.hessians(layer) {
			site := model.Site{Layer: layer, Point: point}
			plan.Hessian(site, h)
			want := after.Site(site).Hessian
			for i, v := range want.Data {
				scale := math.Sqrt(want.Data[i/h.K*(h.K+1)] * want.Data[i%h.K*(h.K+1)])
				if math.Abs(h.Data[i]-v) > 1e-5*scale { // FP32 activations of two layers
					t.Fatalf("%v: element %d is %v, wanted %v", site, i, h.Data[i], v)
				}
			}
		}
	}
}
