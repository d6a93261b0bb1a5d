package smoothing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
)

const experts = 3

// mixture is a table whose MLP has experts behind a router, as far as feeds go.
func mixture() (*model.Config, model.Params) {
	base := modeltest.Random(71, modeltest.Shapes()[1]).Parsed()
	cfg, arch := *base, *base.Arch
	norm := model.Feed{Site: model.MLPIn, From: arch.MLPNorm, To: []string{"mlp.gate"}}
	arch.Linears = append([]model.LinearRule(nil), arch.Linears[:4]...)
	arch.Feeds = append([]model.Feed(nil), arch.Feeds[:2]...)
	for i := range experts {
		name := func(part string) string { return fmt.Sprintf("mlp.experts.%d.%s", i, part) }
		norm.To = append(norm.To, name("gate_proj"), name("up_proj"))
		arch.Feeds = append(arch.Feeds, model.Feed{Site: model.DownIn, From: name("up_proj"), To: []string{name("down_proj")}})
		for _, l := range base.Arch.Linears[4:] {
			l.Name = name(strings.TrimPrefix(l.Name, "mlp."))
			arch.Linears = append(arch.Linears, l)
		}
	}
	arch.Feeds = append(arch.Feeds, norm)
	cfg.Arch = &arch

	rng := rand.New(rand.NewPCG(71, 0))
	random := func(rows, cols int) *model.Param {
		w := &model.Param{Rows: rows, Cols: cols, Data: make([]float64, rows*cols)}
		for i := range w.Data {
			w.Data[i] = rng.NormFloat64()
		}
		return w
	}
	p := model.Params{arch.MLPNorm + ".weight": random(1, cfg.Hidden), "mlp.gate.weight": random(experts, cfg.Hidden)}
	for _, f := range arch.Feeds[:2] {
		for _, to := range f.To {
			p[to+".weight"] = random(cfg.Hidden, cfg.Hidden)
		}
	}
	p[arch.AttnNorm+".weight"] = random(1, cfg.Hidden)
	for i := range experts {
		for _, part := range []string{"gate_proj", "up_proj"} {
			p[fmt.Sprintf("mlp.experts.%d.%s.weight", i, part)] = random(cfg.Intermediate, cfg.Hidden)
		}
		p[fmt.Sprintf("mlp.experts.%d.down_proj.weight", i)] = random(cfg.Hidden, cfg.Intermediate)
	}
	return &cfg, p
}

// mix is the MLP: every expert, weighed by the router's softmax.
func mix(cfg *model.Config, p model.Params, x []float64) []float64 {
	apply := func(module string, in []float64) []float64 {
		w := p.Weight(module)
		out := make([]float64, w.Rows)
		for i := range out {
			for j, v := range w.Row(i) {
				out[i] += v * in[j]
			}
		}
		return out
	}
	in := make([]float64, len(x))
	for j, v := range p.Weight(cfg.Arch.MLPNorm).Data {
		in[j] = v * x[j]
	}
	share, total := apply("mlp.gate", in), 0.0
	for i, v := range share {
		share[i] = math.Exp(v / 8)
		total += share[i]
	}
	out := make([]float64, len(x))
	for i := range experts {
		name := fmt.Sprintf("mlp.experts.%d.", i)
		gate, up := apply(name+"gate_proj", in), apply(name+"up_proj", in)
		for j, g := range gate {
			up[j] *= g / (1 + math.Exp(-g))
		}
		for j, v := range apply(name+"down_proj", up) {
			out[j] += share[i] / total * v
		}
	}
	return out
}

// The router is scaled with the experts, each expert's down with its own up; the
// control leaves the router out.
func TestExpertsAreSmoothedTogether(t *testing.T) {
	t.Parallel()
	cfg, p := mixture()
	scales, err := FireQ(cfg, 0, p, FireQOptions{Statistic: StatisticMean, Pairs: everyPair(FireQPair{Level: Auto})})
	if err != nil || len(scales) != len(cfg.Arch.Feeds) {
		t.Fatal(len(scales), err)
	}
	plan := NewPlan(cfg)
	if err := plan.Set(0, scales); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(72, 0))
	x := make([]float64, cfg.Hidden)
	for j := range x {
		x[j] = rng.NormFloat64()
	}
	want := mix(cfg, p, x)
	differs := func(p model.Params) float64 {
		most, top := 0.0, 0.0
		for j, v := range mix(cfg, p, x) {
			most, top = max(most, math.Abs(v-want[j])), max(top, math.Abs(want[j]))
		}
		return most / top
	}
	smooth := cloned(p)
	plan.Block(0, smooth)
	if d := differs(smooth); d > 1e-12 {
		t.Errorf("outputs moved by %g", d)
	}
	b := &smoothed{params: smooth}
	norm := cfg.Arch.Feeds[len(cfg.Arch.Feeds)-1]
	mean := b.magnitudes(norm.To, cfg.Hidden).mean
	for j, v := range mean {
		if math.Abs(v-mean[0]) > 1e-12*mean[0] {
			t.Fatalf("column %d of router and experts has %v, column 0 %v", j, v, mean[0])
		}
	}
	smooth["mlp.gate.weight"] = p["mlp.gate.weight"]
	if d := differs(smooth); d < 1e-3 {
		t.Errorf("a router left alone moved outputs by %g only", d)
	}
}
