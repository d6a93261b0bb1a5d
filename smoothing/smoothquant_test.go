package smoothing

import (
	"errors"
	"math"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
)

func smoothQuantAt(t *testing.T, s *subject, p model.Params, stats *calibrate.Stats, alpha float64) []FeedScale {
	t.Helper()
	scales, err := SmoothQuant(s.cfg, 0, p, stats, SmoothQuantOptions{Alpha: alpha, Pairs: allPairs})
	if err != nil {
		t.Fatal(err)
	}
	return scales
}

// times returns the statistics of activations that a factor for each site and
// channel was multiplied into.
func times(stats *calibrate.Stats, factor func(site model.Site, channel int) float64) *calibrate.Stats {
	out := &calibrate.Stats{Sites: make([]calibrate.SiteStats, len(stats.Sites))}
	for i, s := range stats.Sites {
		out.Sites[i] = calibrate.SiteStats{Site: s.Site, Tokens: s.Tokens, AbsMax: make([]float32, s.Channels()), SumAbs: make([]float64, s.Channels())}
		for j := range s.AbsMax {
			out.Sites[i].AbsMax[j] = float32(float64(s.AbsMax[j]) * factor(s.Site, j))
			out.Sites[i].SumAbs[j] = s.SumAbs[j] * factor(s.Site, j)
		}
	}
	return out
}

// The scales of a smoothed layer are 1.
func TestSmoothQuantIsDoneOnce(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		s := observed(t, 31, shape)
		for _, alpha := range []float64{0, 0.5, 0.85, 1} {
			scales := smoothQuantAt(t, s, s.block(t, 0), s.stats, alpha)
			plan := NewPlan(s.cfg)
			if err := plan.Set(0, scales); err != nil {
				t.Fatal(err)
			}
			columns := map[model.Point][]float64{}
			for i, f := range s.cfg.Feeds(0) {
				columns[f.Site] = wiresOf(s.cfg, 0, f).spread(scales[i].S)
			}
			after := times(s.stats, func(site model.Site, j int) float64 {
				if c := columns[site.Point]; c != nil {
					return 1 / c[j]
				}
				return 1
			})
			for _, fs := range smoothQuantAt(t, s, s.block(t, 0, plan), after, alpha) {
				for j, v := range fs.S {
					if math.Abs(v-1) > 4*0x1p-24 { // FP32 maxima, two powers and a scale in 24 bits
						t.Fatalf("%s, alpha %v: %s, channel %d: %v on the smoothed layer", shape.Name, alpha, fs.From, j, v)
					}
				}
			}
		}
	}
}

// Activations and weights times λ: scales times λ^(2α-1). At α = 0 they are one
// over the largest weights, at α = 1 the largest activations.
func TestSmoothQuantScalesAndLimits(t *testing.T) {
	t.Parallel()
	s := observed(t, 32, modeltest.Shapes()[6])
	p := s.block(t, 0)
	large := cloned(p)
	const lambda = 8
	for _, f := range s.cfg.Feeds(0) {
		for _, to := range f.To {
			for i := range large.Weight(to).Data {
				large.Weight(to).Data[i] *= lambda
			}
		}
	}
	// v and up are consumers too; their rows are divided back before they are read.
	much := times(s.stats, func(model.Site, int) float64 { return lambda })
	for _, alpha := range []float64{0, 0.25, 0.5, 1} {
		scales, scaled := smoothQuantAt(t, s, p, s.stats, alpha), smoothQuantAt(t, s, large, much, alpha)
		for i, f := range s.cfg.Feeds(0) {
			w := wiresOf(s.cfg, 0, f)
			site := s.stats.Site(model.Site{Point: f.Site})
			for j, v := range scales[i].S {
				if f.Site == model.OIn || f.Site == model.DownIn {
					if want := v * math.Pow(lambda, 2*alpha-1); math.Abs(scaled[i].S[j]-want) > 8*0x1p-24*want {
						t.Fatalf("alpha %v, %s, channel %d: %v, wanted %v", alpha, f.Site, j, scaled[i].S[j], want)
					}
				}
				activation, weight := 0.0, 0.0
				for column := range w.columns() {
					if column/(w.group*w.dim)*w.dim+column%w.dim != j {
						continue
					}
					activation = max(activation, float64(site.AbsMax[column]))
					for _, to := range f.To {
						c := p.Weight(to)
						for r := range c.Rows {
							d := 1.0
							for k, g := range s.cfg.Feeds(0) {
								if g.From == to {
									d = scales[k].S[r]
								}
							}
							weight = max(weight, math.Abs(c.Row(r)[column])/d)
						}
					}
				}
				if want := math.Pow(activation, alpha) / math.Pow(weight, 1-alpha); math.Abs(v-want) > 4*0x1p-24*want {
					t.Fatalf("alpha %v, %s, channel %d: %v, wanted %v", alpha, f.Site, j, v, want)
				}
			}
		}
	}
}

// Channels that are dead on one side or both are held by the clamps.
func TestSmoothQuantClamps(t *testing.T) {
	t.Parallel()
	s := observed(t, 33, modeltest.Shapes()[0])
	p := s.block(t, 0)
	down := p.Weight("mlp.down_proj")
	for i := range down.Rows {
		down.Row(i)[1], down.Row(i)[2] = 0, 0
	}
	stats := times(s.stats, func(_ model.Site, j int) float64 {
		if j == 0 || j == 2 {
			return 0
		}
		return 1
	})
	got := smoothQuantAt(t, s, p, stats, 0.5)[3].S
	a := float64(stats.Site(model.Site{Point: model.DownIn}).AbsMax[1])
	for j, want := range []float64{1e-5, math.Sqrt(a / 1e-5), 1e-5} {
		if math.Abs(got[j]-want) > 4*0x1p-24*want {
			t.Errorf("channel %d: %v, wanted %v", j, got[j], want)
		}
	}
}

// Without a choice of pairs only the norms' are scaled; a search takes the best.
func TestSmoothQuantOptions(t *testing.T) {
	t.Parallel()
	s := observed(t, 34, modeltest.Shapes()[0])
	p := s.block(t, 0)
	scales, err := SmoothQuant(s.cfg, 0, p, s.stats, SmoothQuantOptions{Alpha: 0.5})
	if err != nil || len(scales) != 2 || scales[0].From != "input_layernorm" || scales[1].From != "post_attention_layernorm" {
		t.Errorf("default pairs: %v, %v", scales, err)
	}
	var told []Choice
	o := SmoothQuantOptions{
		Alphas:    []float64{0.2, 0.4, 0.6, 0.8},
		Objective: &Objective{Hessians: s.hessians(0), Fake: int4(8), OnChoice: func(c Choice) { told = append(told, c) }},
	}
	if _, err := SmoothQuant(s.cfg, 0, p, s.stats, o); err != nil || len(told) != 2 || told[0].Parameter == 0 {
		t.Errorf("searched: %+v, %v", told, err)
	}
	for name, c := range map[string]struct {
		stats *calibrate.Stats
		o     SmoothQuantOptions
	}{
		"alpha above 1":          {s.stats, SmoothQuantOptions{Alpha: 1.1}},
		"negative alpha":         {s.stats, SmoothQuantOptions{Alphas: []float64{-0.1}}},
		"alpha is not a number":  {s.stats, SmoothQuantOptions{Alpha: math.NaN()}},
		"no statistics":          {&calibrate.Stats{}, SmoothQuantOptions{}},
		"search, no objective":   {s.stats, SmoothQuantOptions{Alphas: []float64{0.5}}},
		"activations beyond all": {times(s.stats, func(model.Site, int) float64 { return math.Inf(1) }), SmoothQuantOptions{Alpha: 0.5}},
	} {
		if _, err := SmoothQuant(s.cfg, 0, p, c.stats, c.o); !errors.Is(err, ErrScale) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
