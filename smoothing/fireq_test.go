package smoothing

import (
	"errors"
	"math"
	"slices"
	"testing"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// After r = 1 every column of every consumer has the level as its statistic,
// over the rows as they are in the end: v and up are divided after their own
// columns were scaled, or before, and it must not matter.
func TestFireQLevelsColumns(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		s := observed(t, 11, shape)
		for _, statistic := range []Statistic{StatisticMax, StatisticMean} {
			for _, level := range []float64{Auto, 0.03} {
				plan := s.plan(t, func(layer int, p model.Params) ([]FeedScale, error) {
					return FireQ(s.cfg, layer, p, FireQOptions{Statistic: statistic, Pairs: everyPair(FireQPair{Level: level})})
				})
				for layer := range s.cfg.Layers {
					b := &smoothed{params: s.block(t, layer, plan)}
					for _, f := range s.cfg.Feeds(layer) {
						w := wiresOf(s.cfg, layer, f)
						if w.group > 1 {
							continue // a mean over the group's columns cannot level each
						}
						stat, err := statistic.of(b, f, w)
						if err != nil {
							t.Fatal(err)
						}
						want := level
						if level == Auto {
							want = FireQPair{Level: Auto}.level(stat)
						}
						for j, v := range stat {
							if math.Abs(v-want) > 1e-12*want {
								t.Fatalf("%s, layer %d, %s, statistic %d: column %d has %v, wanted %v", shape.Name, layer, f.Site, statistic, j, v, want)
							}
						}
					}
				}
			}
		}
	}
}

// A channel of v takes the mean over its group of what the columns of o want.
func TestFireQAveragesOverTheGroup(t *testing.T) {
	t.Parallel()
	s := observed(t, 12, modeltest.Shapes()[2]) // three queries a key
	p := s.block(t, 0)
	scales, err := FireQ(s.cfg, 0, p, FireQOptions{Statistic: StatisticMean, Pairs: map[model.Point]FireQPair{model.OIn: {Level: 0.1}}})
	if err != nil || len(scales) != 1 {
		t.Fatal(scales, err)
	}
	o, d, group := p.Weight("self_attn.o_proj"), s.cfg.HeadDim, s.cfg.Heads/s.cfg.KVHeads
	for kv := range s.cfg.KVHeads {
		for c := range d {
			want := 0.0
			for g := range group {
				mean := 0.0
				for i := range o.Rows {
					mean += math.Abs(o.Row(i)[(kv*group+g)*d+c]) / float64(o.Rows)
				}
				want += 0.1 / mean / float64(group)
			}
			if got := scales[0].S[kv*d+c]; math.Abs(got-want) > 1e-12*want {
				t.Fatalf("head %d, channel %d: %v, wanted %v", kv, c, got, want)
			}
		}
	}
}

// A dead column keeps the factor 1 and takes no part in the level.
func TestFireQLeavesDeadColumnsAlone(t *testing.T) {
	t.Parallel()
	s := observed(t, 13, modeltest.Shapes()[0])
	p := s.block(t, 0)
	down := p.Weight("mlp.down_proj")
	for i := range down.Rows {
		down.Row(i)[7] = 0
	}
	scales, err := FireQ(s.cfg, 0, p, FireQOptions{Statistic: StatisticMean, Pairs: map[model.Point]FireQPair{model.DownIn: {Level: Auto}}})
	if err != nil {
		t.Fatal(err)
	}
	stat := (&smoothed{params: p}).magnitudes([]string{"mlp.down_proj"}, down.Cols).mean
	sum := 0.0
	for _, v := range stat {
		sum += v
	}
	if scales[0].S[7] != 1 {
		t.Errorf("dead column: %v", scales[0].S[7])
	}
	if got, want := scales[0].S[8]*stat[8], sum/float64(down.Cols-1); math.Abs(got-want) > 1e-12*want {
		t.Errorf("level %v, wanted %v", got, want)
	}
	clear(down.Data)
	scales, err = FireQ(s.cfg, 0, p, FireQOptions{Statistic: StatisticMax, Pairs: map[model.Point]FireQPair{model.DownIn: {Level: Auto}}})
	if err != nil || slices.Max(scales[0].S) != 1 || slices.Min(scales[0].S) != 1 {
		t.Errorf("nothing alive: %v, %v", scales, err)
	}
}

// The searched exponent is the one of the smallest error, never worse than 1,
// and better where one column is a hundred times the others.
func TestFireQSearchesTheExponent(t *testing.T) {
	t.Parallel()
	s := observed(t, 14, modeltest.Shapes()[1])
	for layer := range s.cfg.Layers {
		p := s.block(t, layer)
		gate := p.Weight("mlp.gate_proj")
		for i := range gate.Rows {
			gate.Row(i)[9] *= 100
		}
		var told []Choice
		objective := &Objective{Hessians: s.hessians(layer), Fake: int4(8), OnChoice: func(c Choice) { told = append(told, c) }}
		o := FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto, Search: true}), Objective: objective}
		searched, err := FireQ(s.cfg, layer, p, o)
		if err != nil {
			t.Fatal(err)
		}
		objective.OnChoice = nil
		var order []model.Point
		moved := 0
		for _, c := range told {
			order = append(order, c.Site.Point)
			if c.Parameter == 0 && c.Error != c.Unscaled || c.Error > c.Unscaled || c.Site.Layer != layer {
				t.Errorf("%+v", c)
			}
			if c.Parameter != 0 {
				moved++
			}
			if c.Site.Point == model.MLPIn && !(c.Error < 0.9*c.Unscaled) {
				t.Errorf("nothing gained at a column of outliers: %+v", c)
			}
			for _, r := range fireQExponents { // the same exponent given, not searched
				o.Pairs[c.Site.Point] = FireQPair{Level: Auto, Exponent: r}
				fixed, err := FireQ(s.cfg, layer, p, o)
				if err != nil {
					t.Fatal(err)
				}
				named := func(fs FeedScale) bool { return fs.From == c.From }
				if i := slices.IndexFunc(searched, named); r == c.Parameter && !slices.Equal(searched[i].S, fixed[slices.IndexFunc(fixed, named)].S) {
					t.Errorf("%s: searched scales are not those of exponent %v", c.From, r)
				}
				o.Pairs[c.Site.Point] = FireQPair{Level: Auto, Search: true}
			}
		}
		if moved != len(searched) || !slices.Equal(order, []model.Point{model.OIn, model.DownIn, model.AttnIn, model.MLPIn}) {
			t.Errorf("%d scales of %d chosen, in the order %v", len(searched), moved, order)
		}
	}
}

func TestFireQRefuses(t *testing.T) {
	t.Parallel()
	s := observed(t, 15, modeltest.Shapes()[0])
	p := s.block(t, 0)
	good := s.hessians(0)
	other := s.hessians(0)
	other[model.DownIn] = good[model.AttnIn]
	search := FireQPair{Level: Auto, Search: true}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		statistic Statistic
		pair      FireQPair
		objective *Objective
		want      error
	}{
		"unknown statistic":   {statistic: 3, pair: FireQPair{Level: 1}, want: ErrScale},
		"negative level":      {pair: FireQPair{Level: -2}, want: ErrScale},
		"level not a number":  {pair: FireQPair{Level: math.NaN()}, want: ErrScale},
		"infinite level":      {pair: FireQPair{Level: math.Inf(1)}, want: ErrScale},
		"negative exponent":   {pair: FireQPair{Level: 1, Exponent: -1}, want: ErrScale},
		"no objective":        {pair: search, want: ErrScale},
		"no quantiser":        {pair: search, objective: &Objective{Hessians: good}, want: ErrScale},
		"no Hessian":          {pair: search, objective: &Objective{Fake: int4(8)}, want: ErrScale},
		"Hessian of another":  {pair: search, objective: &Objective{Hessians: other, Fake: int4(8)}, want: ErrScale},
		"quantiser that errs": {pair: search, objective: &Objective{Hessians: good, Fake: func(_, _ tensor.Matrix) error { return broken }}, want: broken},
		"quantiser of NaN": {pair: search, objective: &Objective{Hessians: good, Fake: func(dst, _ tensor.Matrix) error {
			dst.Data[0] = float32(math.NaN())
			return nil
		}}, want: ErrScale},
	} {
		_, err := FireQ(s.cfg, 0, p, FireQOptions{Statistic: c.statistic, Pairs: map[model.Point]FireQPair{model.DownIn: c.pair}, Objective: c.objective})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if f := (*fault.Error)(nil); errors.Is(c.want, ErrScale) && (!errors.As(err, &f) || f.Found == "" || f.Wanted == "") {
			t.Errorf("%s: says too little: %v", name, err)
		}
	}
	p.Weight("mlp.down_proj").Data[3] = math.NaN()
	if _, err := FireQ(s.cfg, 0, p, FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: 1})}); !errors.Is(err, ErrScale) {
		t.Errorf("a weight that is not a number: %v", err)
	}
	if scales, err := FireQ(s.cfg, 0, p, FireQOptions{}); err != nil || len(scales) != 0 {
		t.Errorf("no pairs: %v, %v", scales, err)
	}
}
