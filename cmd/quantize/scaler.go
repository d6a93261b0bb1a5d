package main

import (
	"cmp"
	"slices"

	"quantize/calibrate"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
	"quantize/rope"
	"quantize/smoothing"
	"quantize/tensor"
)

// scaler makes the rope and channel scales of one block after the other.
type scaler struct {
	loaded   *loaded
	recipe   *recipe.Recipe
	layout   rope.Layout
	pre      *rope.Pre       // nil: none
	plan     *smoothing.Plan // nil: none
	weights  *model.Folded   // with everything before plan
	sidecar  *packer.Sidecar
	factors  []float64         // of the layer's keys, folded before rotary embedding; nil: ones
	post     []float32         // and applied after it; nil: ones
	all      []model.Transform // with plan
	clips    map[string]*smoothing.Clipping
	decision packer.Decision
	done     int // layers
}

// sites says what has to be measured.
func (s *scaler) sites() calibrate.Options {
	var o calibrate.Options
	want := func(points ...model.Point) {
		for _, p := range points {
			if !slices.Contains(o.Points, p) {
				o.Points = append(o.Points, p)
			}
		}
	}
	switch s.recipe.Rope.Method {
	case recipe.NoRope:
	case recipe.FireQRope:
		want(pairSite(s.recipe.Rope.Statistic))
	case recipe.SmoothAttention:
		want(model.KPost, model.QPost)
	}
	if s.recipe.Rope.TopK > 0 {
		want(model.KPost)
	}
	if s.recipe.KV.Format == recipe.KVFP8 || s.recipe.KV.Smooth {
		want(model.KPost, model.V)
	}
	m := s.recipe.Smoothing
	if m.Method == recipe.SmoothQuant || m.Method == recipe.AWQ || m.Search {
		want(calibrate.LinearInputs...)
	}
	if m.Method == recipe.AWQ || m.Search {
		o.Hessians = calibrate.LinearInputs
	}
	return o
}

// layer makes the scales of a block from its statistics.
func (s *scaler) layer(layer int, stats *calibrate.Stats) error {
	if err := s.ropeScales(layer, stats); err != nil {
		return err
	}
	if s.plan != nil {
		if err := s.smooth(layer, stats); err != nil {
			return err
		}
	}
	if s.recipe.KV.Format == recipe.KVFP8 || s.recipe.KV.Smooth {
		s.cacheScales(layer, stats)
	}
	s.done = layer + 1
	return nil
}

func (s *scaler) smooth(layer int, stats *calibrate.Stats) error {
	p, err := s.weights.Block(layer)
	if err != nil {
		return err
	}
	scales, err := s.channelScales(layer, p, stats)
	if err != nil {
		return err
	}
	if err := s.plan.Set(layer, scales); err != nil || !s.recipe.Smoothing.Clip {
		return err
	}
	return s.clip(layer, stats)
}

func (s *scaler) ropeScales(layer int, stats *calibrate.Stats) error {
	o := s.recipe.Rope
	at := func(p model.Point) *calibrate.SiteStats { return stats.Site(model.Site{Layer: layer, Point: p}) }
	var pre []float64
	var err error
	switch o.Method {
	case recipe.NoRope:
	case recipe.FireQRope:
		pre, err = rope.PreScales(s.layout, at(pairSite(o.Statistic)), rope.PreOptions{Alpha: o.Alpha, Exponent: o.Exponent, Statistic: ropeStatistic(o.Statistic)})
	case recipe.SmoothAttention:
		pre, err = rope.SmoothAttentionScales(s.layout, at(model.KPost), at(model.QPost), rope.SmoothAttentionOptions{Alpha: o.Alpha})
	}
	if err != nil {
		return err
	}
	var post []float32
	if o.TopK > 0 {
		if post, pre, err = rope.PostScales(s.layout, at(model.KPost), pre, rope.PostOptions{TopK: o.TopK, Beta: o.Beta}); err != nil {
			return err
		}
		s.sidecar.KeyScales = append(s.sidecar.KeyScales, post)
	}
	if s.pre != nil {
		s.pre.ByLayer[layer] = pre
	}
	s.factors, s.post = pre, post
	return nil
}

// cacheScales makes what the cache keeps of a layer, beside the codes. Keys and
// values were measured before the scales of this recipe, and are cached after.
func (s *scaler) cacheScales(layer int, stats *calibrate.Stats) {
	k, v := stats.Site(model.Site{Layer: layer, Point: model.KPost}), stats.Site(model.Site{Layer: layer, Point: model.V})
	values := s.valueScales(layer, v.Channels())
	switch {
	case s.recipe.KV.Format == recipe.KVFP8:
		top := make([]float32, v.Channels())
		for c, m := range v.AbsMax {
			top[c] = float32(float64(m) * values[c])
		}
		s.sidecar.KScales = append(s.sidecar.KScales, packer.KV8Scale(rope.CachedMax(k, s.factors, s.post)))
		s.sidecar.VScales = append(s.sidecar.VScales, packer.KV8Scale(top))
	case s.recipe.KV.Smooth:
		key, value := make([]float32, k.Channels()), make([]float32, v.Channels())
		for c, m := range k.Mean() {
			if s.factors != nil {
				m *= s.factors[c]
			}
			if s.post != nil {
				m *= float64(s.post[c])
			}
			key[c] = float32(m)
		}
		for c, m := range v.Mean() {
			value[c] = float32(m * values[c])
		}
		s.sidecar.KeyMeans = append(s.sidecar.KeyMeans, key)
		s.sidecar.ValueMeans = append(s.sidecar.ValueMeans, value)
	}
}

// valueScales is what the channels of the values are multiplied by, after they
// were measured: v_mul, and the inverse of the scales of the pair v, o.
func (s *scaler) valueScales(layer, channels int) []float64 {
	out := make([]float64, channels)
	for c := range out {
		out[c] = cmp.Or(s.recipe.Smoothing.VMul, 1)
	}
	if s.plan == nil {
		return out
	}
	for _, f := range s.plan.Layer(layer) {
		if w := s.loaded.config.Arch.Linear(model.RoleV); f.From == w {
			for c, v := range f.S {
				out[c] /= v
			}
		}
	}
	return out
}

// pairSite is where the size of a pair of key channels is measured.
func pairSite(s recipe.Statistic) model.Point {
	if s == recipe.Deviation {
		return model.KPost
	}
	return model.KPre
}

func ropeStatistic(s recipe.Statistic) rope.Statistic {
	switch s {
	case recipe.RMS:
		return rope.RMSRadius
	case recipe.Deviation:
		return rope.Deviation
	default:
		return rope.MaxRadius
	}
}

func (s *scaler) channelScales(layer int, p model.Params, stats *calibrate.Stats) ([]smoothing.FeedScale, error) {
	o := s.recipe.Smoothing
	var points []model.Point
	for _, pair := range o.Pairs {
		points = append(points, siteOf(pair))
	}
	hessians := map[model.Point]*calibrate.Hessian{}
	for i := range stats.Sites {
		if h := stats.Sites[i].Hessian; h != nil {
			hessians[stats.Sites[i].Site.Point] = h
		}
	}
	switch o.Method {
	case recipe.FireQ:
		f := smoothing.FireQOptions{
			Statistic: smoothing.StatisticMean, Pairs: map[model.Point]smoothing.FireQPair{},
			Objective: &smoothing.Objective{Hessians: hessians, Fake: s.fake(), MatMulT: s.loaded.compute.MatMulT},
		}
		if points == nil {
			points = []model.Point{model.OIn, model.MLPIn, model.DownIn}
		}
		for _, point := range points {
			f.Pairs[point] = smoothing.FireQPair{Level: smoothing.Auto, Search: o.Search}
		}
		return smoothing.FireQ(s.loaded.config, layer, p, f)
	case recipe.SmoothQuant:
		return smoothing.SmoothQuant(s.loaded.config, layer, p, stats, smoothing.SmoothQuantOptions{Alpha: o.Alpha, Pairs: points})
	default:
		scales, _, err := smoothing.AWQ(s.loaded.config, layer, p, stats, hessians, s.fake(), smoothing.AWQOptions{
			DuoGroup: s.decision.Group, Pairs: points, MatMulT: s.loaded.compute.MatMulT,
		})
		return scales, err
	}
}

func siteOf(p recipe.Pair) model.Point {
	return map[recipe.Pair]model.Point{
		recipe.PairQKV: model.AttnIn, recipe.PairO: model.OIn, recipe.PairGateUp: model.MLPIn, recipe.PairDown: model.DownIn,
	}[p]
}

// decide settles what the weights will be rounded for, before the first one is.
func decide(cfg *model.Config, r *recipe.Recipe) (packer.Decision, error) {
	o, err := exportOptions(cfg, r)
	if err != nil {
		return packer.Decision{}, err
	}
	var shapes []packer.LinearShape
	for _, t := range model.Tensors(cfg) {
		if t.Kind == model.KindLinear && slices.Contains(o.Linears, t.Module) {
			shapes = append(shapes, packer.LinearShape{Name: t.Module, N: t.Shape[0], K: t.Shape[1]})
		}
	}
	return packer.Decide(o.Scheme, shapes, o.Int4.GroupSize, o.Int4.Grid)
}

// fake rounds as the target will, but for the weighting of its scale search.
func (s *scaler) fake() smoothing.Fake {
	if !s.recipe.Scheme.Int4() {
		return func(dst, w tensor.Matrix) error {
			q, _, err := packer.QuantizeFP8(w)
			if err == nil {
				q.Decode(dst, packer.Exact)
			}
			return err
		}
	}
	o := packer.Int4Options{GroupSize: s.decision.Group, Grid: s.decision.Grid, Search: s.recipe.Weights.Search}
	return func(dst, w tensor.Matrix) error {
		q, _, err := packer.QuantizeInt4(w, o)
		if err == nil {
			q.Decode(dst, o.Grid.Arithmetic())
		}
		return err
	}
}

// grid is what the recipe wants the codes chosen against; packer.Decide has the
// last word. W4A16 has one reading, so its recipes name none.
func grid(r *recipe.Recipe) packer.Grid {
	switch {
	case r.Scheme == recipe.W4A16:
		return packer.GridWeightOnly
	case r.Weights.Grid == recipe.Exact:
		return packer.GridExact
	default:
		return packer.GridLUT
	}
}

func kvScheme(kv recipe.KV) packer.KVScheme {
	f := map[recipe.KVFormat]packer.KVFormat{recipe.KVFP8: packer.KVFP8, recipe.KVInt4: packer.KVInt4}[kv.Format]
	return packer.KVScheme{Format: f, GroupSize: kv.GroupSize, Symmetric: kv.Symmetric}
}
