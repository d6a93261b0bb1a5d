package smoothing

import (
	"strings"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
)

// sparse calls f with every shape that has experts, and a layer that has them.
func sparse(t *testing.T, f func(t *testing.T, shape modeltest.Shape, cfg *model.Config, layer int)) {
	t.Helper()
	for _, shape := range modeltest.Shapes() {
		cfg := modeltest.Random(0, shape).Parsed()
		for layer := range cfg.Layers {
			if cfg.HasExperts(layer) {
				t.Run(shape.Name, func(t *testing.T) {
					t.Parallel()
					f(t, shape, cfg, layer)
				})
				break
			}
		}
	}
}

// forgetfulOf leaves some modules as they were.
type forgetfulOf struct {
	model.Transform
	part string
}

func (f forgetfulOf) Block(layer int, p model.Params) {
	kept := cloned(p)
	f.Transform.Block(layer, p)
	for name, w := range kept {
		if strings.Contains(name, f.part) {
			copy(p[name].Data, w.Data)
		}
	}
}

// A router left out of the feed of its norm, or of the rotation of the stream, and
// one expert's down left out of its pair: each breaks the function and is seen to.
func TestExpertsAndRouterChangeTogether(t *testing.T) {
	t.Parallel()
	sparse(t, func(t *testing.T, shape modeltest.Shape, cfg *model.Config, _ int) {
		s := observed(t, 71, shape)
		plan := s.plan(t, func(layer int, p model.Params) ([]FeedScale, error) {
			return FireQ(s.cfg, layer, p, FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto})})
		})
		stream, err := NewResidual(cfg, hadamard(t, cfg.Hidden))
		if err != nil {
			t.Fatal(err)
		}
		rule := cfg.Arch.Experts
		down := rule.Prefix + "1." + rule.Linears[2].Name
		for what, broken := range map[string]model.Transform{
			"plan without router": forgetfulOf{plan, rule.Router + ".weight"}, "rotation without router": forgetfulOf{stream, rule.Router + ".weight"},
			"plan without a down": forgetfulOf{plan, down}, "rotation without a down": forgetfulOf{stream, down},
		} {
			if d := s.moved(broken); d < 1e-4 {
				t.Errorf("%s: logits moved by %g only", what, d)
			}
		}
	})
}

// An expert that no token reached has neither statistics nor Hessian: its pair is
// left alone by what needs them, and scaled from weights by what does not.
func TestExpertsThatNoTokenReached(t *testing.T) {
	t.Parallel()
	sparse(t, func(t *testing.T, shape modeltest.Shape, cfg *model.Config, layer int) {
		s := observed(t, 72, shape)
		const lost = 1
		point := model.DownIn.Of(lost)
		for i := range s.stats.Sites {
			if s.stats.Sites[i].Site == (model.Site{Layer: layer, Point: point}) {
				s.stats.Sites = append(s.stats.Sites[:i], s.stats.Sites[i+1:]...)
				break
			}
		}
		var up, down string
		for _, f := range cfg.Feeds(layer) {
			if f.Site == point {
				up, down = f.From, f.To[0]
			}
		}
		has := func(scales []FeedScale, err error) bool {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			for _, fs := range scales {
				if fs.From == up {
					return true
				}
			}
			return false
		}
		p := s.block(t, layer)
		awq, _, err := AWQ(cfg, layer, p, s.stats, s.hessians(layer), int4(8), AWQOptions{})
		if has(awq, err) {
			t.Error("awq scaled it")
		}
		if has(SmoothQuant(cfg, layer, p, s.stats, SmoothQuantOptions{Alpha: 0.5, Pairs: allPairs})) {
			t.Error("smoothquant scaled it")
		}
		objective := &Objective{Hessians: s.hessians(layer), Fake: int4(8)}
		if !has(FireQ(cfg, layer, p, FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto, Search: true}), Objective: objective})) {
			t.Error("fireq did not scale it")
		}
		clips, err := Clip(cfg, layer, p, s.hessians(layer), int4(8), ClipOptions{GroupSize: 8})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range clips {
			if c.Module == down {
				t.Error("its down was clipped")
			}
		}
	})
}

// What an unrounded router would lose to rounding is not held against a scale.
func TestRoutersAreNotJudged(t *testing.T) {
	t.Parallel()
	sparse(t, func(t *testing.T, shape modeltest.Shape, cfg *model.Config, layer int) {
		s := observed(t, 73, shape)
		b := &smoothed{params: s.block(t, layer), linears: linearsOf(cfg, layer)}
		for _, f := range cfg.Feeds(layer) {
			if f.Site != model.MLPIn {
				continue
			}
			errorOf := func() float64 {
				w := wiresOf(cfg, layer, f)
				j, err := (&Objective{Hessians: s.hessians(layer), Fake: int4(8)}).judge(b, model.Site{Layer: layer, Point: f.Site}, f, w)
				if err != nil {
					t.Fatal(err)
				}
				ones := make([]float64, w.channels())
				for i := range ones {
					ones[i] = 1
				}
				e, err := j.error(ones)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			before := errorOf()
			router := b.params.Weight(cfg.Arch.Experts.Router).Data
			for i := range router {
				router[i] *= 1000
			}
			if after := errorOf(); after != before {
				t.Errorf("%g with another router, %g before", after, before)
			}
		}
	})
}
