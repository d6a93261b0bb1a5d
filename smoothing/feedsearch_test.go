package smoothing

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// activations returns the input rows of a site over all windows.
func (s *subject) activations(t testing.TB, site model.Site) [][]float64 {
	t.Helper()
	m, err := model.New(s.cfg, s.made.Source(modeltest.Compute()), modeltest.Compute())
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]float64
	if _, err := m.Stream(t.Context(), s.windows, model.StreamOptions{Observe: func(at model.Site, x tensor.Matrix) {
		for i := 0; at == site && i < x.Rows; i++ {
			row := make([]float64, x.Cols)
			for j, v := range x.Row(i) {
				row[j] = float64(v)
			}
			rows = append(rows, row)
		}
	}}); err != nil {
		t.Fatal(err)
	}
	return rows
}

// outputError is the objective by its meaning: the consumers' outputs on every
// token, with the weights that a plan of these scales and fake leave.
func (s *subject) outputError(t testing.TB, site model.Site, scales []FeedScale, fake Fake) float64 {
	t.Helper()
	plan := NewPlan(s.cfg)
	if err := plan.Set(site.Layer, scales); err != nil {
		t.Fatal(err)
	}
	before, after := cloned(s.block(t, site.Layer)), s.block(t, site.Layer, plan)
	total := 0.0
	for _, f := range s.cfg.Feeds(site.Layer) {
		if f.Site != site.Point {
			continue
		}
		columns := slices.Repeat([]float64{1}, wiresOf(s.cfg, site.Layer, f).columns())
		for _, fs := range scales {
			if fs.From == f.From {
				columns = wiresOf(s.cfg, site.Layer, f).spread(fs.S)
			}
		}
		for _, to := range f.To {
			if !linearsOf(s.cfg, site.Layer)[to] {
				continue // a router is not rounded
			}
			w, narrow := before.Weight(to), after.Weight(to).Narrow()
			rounded := tensor.NewMatrix(w.Rows, w.Cols)
			if err := fake(rounded, narrow); err != nil {
				t.Fatal(err)
			}
			for _, x := range s.activations(t, site) {
				for i := range w.Rows {
					divisor := 1.0
					for _, fs := range scales {
						if fs.From == to {
							divisor = fs.S[i]
						}
					}
					e := 0.0
					for j, v := range x {
						e += v/columns[j]*float64(rounded.Row(i)[j])*divisor - v*w.Row(i)[j]
					}
					total += e * e
				}
			}
		}
	}
	return total
}

// The objective is the squared error of the consumers' outputs, summed over the
// tokens; also where earlier feeds divided rows, and under grouped queries.
func TestObjectiveIsTheOutputError(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		s := observed(t, 41, shape)
		var told []Choice
		objective := &Objective{Hessians: s.hessians(1), Fake: int4(8), OnChoice: func(c Choice) { told = append(told, c) }}
		scales, err := FireQ(s.cfg, 1, s.block(t, 1), FireQOptions{
			Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto, Search: true}), Objective: objective,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range told {
			want := s.outputError(t, c.Site, scales, int4(8))
			if math.Abs(c.Error-want) > 1e-4*want { // FP32 sums of the Hessian and of errors near a rounding's tie
				t.Errorf("%s, %s: %v, over the tokens %v", shape.Name, c.Site.Point, c.Error, want)
			}
		}
	}
}

// problem is a block of one feed from up to down, wide enough for several panels
// of H and for all workers, with activations whose channels differ.
func problem(seed uint64, n, k int) (*model.Config, model.Params, *calibrate.Stats, *calibrate.Hessian) {
	rng := rand.New(rand.NewPCG(seed, 5))
	shape := modeltest.Shapes()[0]
	shape.Hidden, shape.Intermediate = n, k
	cfg := modeltest.Random(1, shape).Parsed()
	p := model.Params{
		"mlp.up_proj.weight":   {Rows: k, Cols: n, Data: make([]float64, k*n)},
		"mlp.down_proj.weight": {Rows: n, Cols: k, Data: make([]float64, n*k)},
	}
	for _, w := range p {
		for i := range w.Data {
			w.Data[i] = rng.NormFloat64()
		}
	}
	x := tensor.NewMatrix(64, k)
	stats := calibrate.SiteStats{Site: model.Site{Point: model.DownIn}, Tokens: 64, AbsMax: make([]float32, k), SumAbs: make([]float64, k)}
	for j := range k {
		size := math.Exp(rng.NormFloat64())
		for i := range x.Rows {
			v := float32(size * rng.NormFloat64())
			x.Row(i)[j] = v
			stats.AbsMax[j] = max(stats.AbsMax[j], float32(math.Abs(float64(v))))
			stats.SumAbs[j] += math.Abs(float64(v))
		}
	}
	h := &calibrate.Hessian{K: k, Data: make([]float64, k*k)}
	sums := calibrate.NewAccumulator(nil)
	sums.Add(h, x)
	sums.Complete(h)
	return cfg, p, &calibrate.Stats{Tokens: 64, Sites: []calibrate.SiteStats{stats}}, h
}

var downOnly = []model.Point{model.DownIn}

// Results are the same bits on any number of workers, and the panels of H add up
// to the whole.
func TestSearchIsDeterministic(t *testing.T) {
	cfg, p, stats, h := problem(1, 40, 600)
	run := func(workers int) ([]FeedScale, Choice) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
		scales, choices, err := AWQ(cfg, 0, p, stats, map[model.Point]*calibrate.Hessian{model.DownIn: h}, int4(64), AWQOptions{Pairs: downOnly, DuoGroup: 64, Ratios: 5})
		if err != nil {
			t.Fatal(err)
		}
		return scales, choices[0]
	}
	scales, choice := run(1)
	for _, workers := range []int{2, 5} {
		again, same := run(workers)
		if same != choice || !slices.Equal(again[0].S, scales[0].S) {
			t.Errorf("%d workers: %+v, alone %+v", workers, same, choice)
		}
	}
	w := p.Weight("mlp.down_proj")
	rounded := tensor.NewMatrix(w.Rows, w.Cols)
	if err := int4(64)(rounded, w.Narrow()); err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for i := range w.Rows {
		for j := range w.Cols {
			for l := range w.Cols {
				want += (float64(rounded.Row(i)[j]) - w.Row(i)[j]) * h.Data[j*h.K+l] * (float64(rounded.Row(i)[l]) - w.Row(i)[l])
			}
		}
	}
	if math.Abs(choice.Unscaled-want) > 1e-5*want {
		t.Errorf("unscaled error %v, wanted %v", choice.Unscaled, want)
	}
}

// A sample of the rows estimates the error of all and finds about the same scales.
func TestSearchOnSomeRows(t *testing.T) {
	t.Parallel()
	cfg, p, stats, h := problem(2, 96, 128)
	run := func(rows int) Choice {
		_, choices, err := AWQ(cfg, 0, p, stats, map[model.Point]*calibrate.Hessian{model.DownIn: h}, int4(32), AWQOptions{Pairs: downOnly, Rows: rows})
		if err != nil {
			t.Fatal(err)
		}
		return choices[0]
	}
	all, most, some := run(0), run(96), run(24)
	if all != most {
		t.Errorf("512 rows of 96: %+v, 96: %+v", all, most)
	}
	if some == all || math.Abs(some.Unscaled/all.Unscaled-1) > 0.2 || math.Abs(some.Parameter-all.Parameter) > 0.15 {
		t.Errorf("24 rows of 96: %+v, all: %+v", some, all)
	}
}
