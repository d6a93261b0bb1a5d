package smoothing

import (
	"math"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
)

// v and its bias are multiplied, o divided, nothing else is touched, and the
// function stays.
func TestVMul(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		s := observed(t, 21, shape)
		plan, err := VMul(s.cfg, 0.9)
		if err != nil {
			t.Fatal(err)
		}
		if d := s.moved(plan); d > 1e-9 {
			t.Errorf("%s: logits moved by %g", shape.Name, d)
		}
		factors := map[string]float64{"self_attn.v_proj.weight": 0.9, "self_attn.v_proj.bias": 0.9, "self_attn.o_proj.weight": 1 / 0.9}
		before := cloned(s.block(t, 1))
		for name, w := range s.block(t, 1, plan) {
			factor := factors[name]
			if factor == 0 {
				factor = 1
			}
			for i, got := range w.Data {
				if want := before[name].Data[i] * factor; math.Abs(got-want) > 4*0x1p-53*math.Abs(want) { // 1/c, its inverse, a product
					t.Fatalf("%s: %s[%d] is %v, wanted %v", shape.Name, name, i, got, want)
				}
			}
		}
	}
}

// FireQ with v_mul: the statistics of q, k and v are read after it.
func TestVMulBeforeFireQ(t *testing.T) {
	t.Parallel()
	s := observed(t, 22, modeltest.Shapes()[6])
	mul, err := VMul(s.cfg, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	plan := NewPlan(s.cfg)
	o := FireQOptions{Statistic: StatisticMean, Pairs: map[model.Point]FireQPair{model.AttnIn: {Level: 0.1}}}
	for layer := range s.cfg.Layers {
		scales, err := FireQ(s.cfg, layer, s.block(t, layer, mul), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.Set(layer, scales); err != nil {
			t.Fatal(err)
		}
	}
	b := &smoothed{params: s.block(t, 0, mul, plan)}
	for j, v := range b.magnitudes(s.cfg.Arch.Feeds[0].To, s.cfg.Hidden).mean {
		if math.Abs(v-0.1) > 1e-13 {
			t.Fatalf("column %d has %v", j, v)
		}
	}
	both, err := Compose(mul, plan)
	if err != nil {
		t.Fatal(err)
	}
	if d := s.moved(both); d > 1e-9 {
		t.Errorf("logits moved by %g", d)
	}
}
