package smoothing

import (
	"errors"
	"math"
	"slices"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
)

// No feed gets worse than it was, all are searched in order, and outliers of
// activations are worth a scale.
func TestAWQIsNeverWorse(t *testing.T) {
	t.Parallel()
	better, searched := 0, 0
	for _, shape := range modeltest.Shapes() {
		s := observed(t, 51, shape)
		for _, duo := range []int{0, 8} {
			for layer := range s.cfg.Layers {
				scales, choices, err := AWQ(s.cfg, layer, s.block(t, layer), s.stats, s.hessians(layer), int4(8), AWQOptions{DuoGroup: duo})
				if err != nil {
					t.Fatal(err)
				}
				var order []model.Point
				for _, c := range choices {
					order = append(order, c.Site.Point)
					scaled := slices.ContainsFunc(scales, func(fs FeedScale) bool { return fs.From == c.From })
					if c.Error > c.Unscaled || scaled != (c.Error < c.Unscaled) {
						t.Errorf("%s: %+v, scaled: %v", shape.Name, c, scaled)
					}
					if scaled {
						better++
					}
				}
				searched += len(order)
				want := []model.Point{model.OIn}
				for _, f := range s.cfg.Feeds(layer) {
					if f.Site.Base() == model.DownIn {
						want = append(want, f.Site)
					}
				}
				if !slices.Equal(order, append(want, model.AttnIn, model.MLPIn)) {
					t.Errorf("%s: order %v", shape.Name, order)
				}
			}
		}
	}
	if better < searched/2 {
		t.Errorf("only %d of %d feeds gained", better, searched)
	}
}

// One channel carries all of the activation: scaling it up must win, by much.
func TestAWQFindsTheSalientChannel(t *testing.T) {
	t.Parallel()
	cfg, p, stats, h := problem(3, 32, 64)
	site := &stats.Sites[0]
	const salient, factor = 5, 200
	site.SumAbs[salient] *= factor
	for j := range h.K {
		h.Data[salient*h.K+j] *= factor
		h.Data[j*h.K+salient] *= factor
	}
	for _, duo := range []int{0, 64} {
		scales, choices, err := AWQ(cfg, 0, p, stats, map[model.Point]*calibrate.Hessian{model.DownIn: h}, int4(64), AWQOptions{Pairs: downOnly, DuoGroup: duo})
		if err != nil {
			t.Fatal(err)
		}
		c := choices[0]
		if !(c.Error < 0.5*c.Unscaled) || !(c.Parameter > 0) {
			t.Errorf("duo %d: %+v", duo, c)
		}
		s := scales[0].S
		if slices.Index(s, slices.Max(s)) != salient {
			t.Errorf("duo %d: the salient channel has %v of %v", duo, s[salient], slices.Max(s))
		}
		if product := slices.Max(s) * slices.Min(s); math.Abs(product-1) > 1e-12 {
			t.Errorf("duo %d: max·min is %v", duo, product)
		}
		if duo == 0 && !slices.Equal(s, awqScales(site.MeanAbs(), nil, c.Parameter)) {
			t.Errorf("scales are not those of ratio %v", c.Parameter)
		}
	}
}

// The formula, by hand.
func TestAWQScales(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		x, w []float64
		r    float64
		want []float64
	}{
		"root":           {x: []float64{16, 1, 4}, r: 0.5, want: []float64{2, 0.5, 1}},
		"ratio 0":        {x: []float64{16, 0, 4}, r: 0, want: []float64{1, 1, 1}},
		"dead channel":   {x: []float64{1, 0}, r: 0.5, want: []float64{100, 0.01}},
		"all dead":       {x: []float64{0, 0}, r: 0.5, want: []float64{1, 1}},
		"duo, ratio 0":   {x: []float64{9, 9}, w: []float64{0.25 - 1e-4, 1 - 1e-4}, r: 0, want: []float64{2, 0.5}},
		"duo, root":      {x: []float64{4, 4}, w: []float64{1, 0.0625}, r: 0.5, want: []float64{math.Sqrt(0.2501 / 1.0001), math.Sqrt(1.0001 / 0.2501)}},
		"duo, no weight": {x: []float64{1, 1}, w: []float64{0, 1}, r: 0.5, want: []float64{math.Sqrt(1.0001 / 1e-4), math.Sqrt(1e-4 / 1.0001)}},
		"not finite":     {x: []float64{math.Inf(1), 1}, r: 0.5, want: []float64{1, 1}},
		"not a number":   {x: []float64{math.NaN(), 4, 1}, r: 0.5, want: []float64{1, 1, 1}},
	} {
		got := awqScales(c.x, c.w, c.r)
		for j, want := range c.want {
			if math.Abs(got[j]-want) > 4*0x1p-24*want {
				t.Errorf("%s: %v, wanted %v", name, got, c.want)
				break
			}
		}
	}
}

// The choice is the least of all candidates, each judged alone.
func TestAWQTakesTheLeast(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		for _, o := range []AWQOptions{{Pairs: downOnly}, {Pairs: downOnly, DuoGroup: 32}, {Pairs: downOnly, DuoGroup: 32, Ratios: 7}} {
			cfg, p, stats, h := problem(10+seed, 24, 64)
			hessians := map[model.Point]*calibrate.Hessian{model.DownIn: h}
			_, choices, err := AWQ(cfg, 0, p, stats, hessians, int4(32), o)
			if err != nil {
				t.Fatal(err)
			}
			b, f := &smoothed{params: p, linears: linearsOf(cfg, 0)}, cfg.Arch.Feeds[3]
			var w []float64
			if o.DuoGroup > 0 {
				w = b.relative(f.To, 64, o.DuoGroup)
			}
			j, err := (&Objective{Hessians: hessians, Fake: int4(32)}).judge(b, model.Site{Point: model.DownIn}, f, wiresOf(cfg, 0, f))
			if err != nil {
				t.Fatal(err)
			}
			least, n := choices[0].Unscaled, 20
			if o.Ratios > 0 {
				n = o.Ratios
			}
			for i := range n {
				e, err := j.error(awqScales(stats.Sites[0].MeanAbs(), w, float64(i)/float64(n)))
				if err != nil {
					t.Fatal(err)
				}
				least = min(least, e)
			}
			if choices[0].Error != least {
				t.Errorf("seed %d, %+v: %+v, the least is %v", seed, o, choices[0], least)
			}
		}
	}
	if plain, duo := (AWQOptions{}).ratios(), (AWQOptions{DuoGroup: 128, Ratios: 4}).ratios(); len(plain) != 19 || plain[0] != 0.05 || !slices.Equal(duo, []float64{0, 0.25, 0.5, 0.75}) {
		t.Errorf("ratios %v and, with duo scaling, %v", plain, duo)
	}
}

// Weights relative to the largest of their group, averaged over all rows of all
// consumers; dividing rows does not matter to them.
func TestRelativeWeights(t *testing.T) {
	t.Parallel()
	b := &smoothed{params: model.Params{
		"a.weight": {Rows: 2, Cols: 3, Data: []float64{1, -2, 5, 0, 0, -3}},
		"b.weight": {Rows: 1, Cols: 3, Data: []float64{-4, 4, 0}},
	}}
	want := []float64{(0.5 + 0 + 1) / 3.0, (1 + 0 + 1) / 3.0, (1 + 1 + 0) / 3.0}
	for _, divisor := range []map[string][]float64{nil, {"a": {2, 3}}} {
		b.divisor = divisor
		got := b.relative([]string{"a", "b"}, 3, 2)
		for j := range want {
			if math.Abs(got[j]-want[j]) > 1e-15 {
				t.Errorf("%v, wanted %v", got, want)
			}
		}
	}
}

func TestAWQRefuses(t *testing.T) {
	t.Parallel()
	s := observed(t, 52, modeltest.Shapes()[0])
	p, stats, h := s.block(t, 0), s.stats, s.hessians(0)
	for name, run := range map[string]func() error{
		"negative ratios": func() error { _, _, err := AWQ(s.cfg, 0, p, stats, h, int4(8), AWQOptions{Ratios: -1}); return err },
		"negative rows":   func() error { _, _, err := AWQ(s.cfg, 0, p, stats, h, int4(8), AWQOptions{Rows: -1}); return err },
		"no statistics":   func() error { _, _, err := AWQ(s.cfg, 0, p, &calibrate.Stats{}, h, int4(8), AWQOptions{}); return err },
		"no Hessians":     func() error { _, _, err := AWQ(s.cfg, 0, p, stats, nil, int4(8), AWQOptions{}); return err },
		"no quantiser":    func() error { _, _, err := AWQ(s.cfg, 0, p, stats, h, nil, AWQOptions{}); return err },
	} {
		if err := run(); !errors.Is(err, ErrScale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	scales, choices, err := AWQ(s.cfg, 0, p, stats, nil, nil, AWQOptions{Pairs: []model.Point{}})
	if err != nil || len(scales) != 0 || len(choices) != 0 {
		t.Errorf("no pairs: %v, %v, %v", scales, choices, err)
	}
}
