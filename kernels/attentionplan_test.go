package kernels_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

var candidates = []kernels.AttentionMode{kernels.AttentionInt4, kernels.AttentionInt8, kernels.AttentionFP8}

// cost is the order of the modes in a plan, cheapest first.
var cost = map[kernels.AttentionMode]int{kernels.AttentionInt4: 0, kernels.AttentionInt8: 1, kernels.AttentionFP8: 1, kernels.AttentionBF16: 2}

// Every plan keeps its budget and share, and a tighter one of either takes no layer to a
// cheaper mode.
func TestPlanKeepsItsBudget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.Float64Range(0, 1)
		var measured [][]packer.MeasuredAttention
		for range rapid.IntRange(1, 12).Draw(t, "layers") {
			var list []packer.MeasuredAttention
			for _, m := range candidates {
				worst := unit.Draw(t, "worst")
				list = append(list, packer.MeasuredAttention{Mode: m, AttentionError: packer.AttentionError{
					Cosine: max(worst, unit.Draw(t, "cosine")), WorstCosine: worst, RelativeL1: unit.Draw(t, "l1"),
				}})
			}
			measured = append(measured, list)
		}
		o := kernels.PlanOptions{MinCosine: unit.Draw(t, "budget"), Fraction: unit.Draw(t, "fraction")}
		plan := kernels.ChoosePlan(measured, o)
		if diff := cmp.Diff(plan, kernels.ChoosePlan(measured, o)); diff != "" {
			t.Fatalf("twice the same is not the same:\n%s", diff)
		}
		quantized := 0
		for layer, l := range plan.Layers {
			if l.Mode == kernels.AttentionBF16 {
				continue
			}
			quantized++
			at := slices.Index(candidates, l.Mode)
			if l.WorstCosine < o.MinCosine || l.AttentionError != measured[layer][at].AttentionError {
				t.Fatalf("layer %d: %+v under a budget of %v", layer, l, o.MinCosine)
			}
			for _, m := range measured[layer] {
				cheaper := cost[m.Mode] < cost[l.Mode] || cost[m.Mode] == cost[l.Mode] && m.Score() > l.Score()
				if cheaper && m.WorstCosine >= o.MinCosine {
					t.Fatalf("layer %d: %v, but %v keeps the budget too", layer, l.Mode, m.Mode)
				}
			}
		}
		if float64(quantized) > o.Fraction*float64(len(measured))+1e-6 {
			t.Fatalf("%d of %d layers quantized, at most %v", quantized, len(measured), o.Fraction)
		}
		tighter := o
		tighter.MinCosine = rapid.Float64Range(o.MinCosine, 1).Draw(t, "tighter budget")
		tighter.Fraction = rapid.Float64Range(0, o.Fraction).Draw(t, "smaller fraction")
		for layer, l := range kernels.ChoosePlan(measured, tighter).Layers {
			if cost[l.Mode] < cost[plan.Layers[layer].Mode] {
				t.Fatalf("layer %d: %v, and under a tighter budget %v", layer, plan.Layers[layer].Mode, l.Mode)
			}
		}
	})
}

// What the meter says is what attention in that mode does: on N(0,1) every mode has its
// known error, the output is exact attention, and the plan's Attend is the mode's.
func TestMeterAndAttend(t *testing.T) {
	t.Parallel()
	cfg := &model.Config{Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 64}
	a := model.Attention{Heads: 4, KVHeads: 2, HeadDim: 64, Scale: 0.125}
	r := rand.New(rand.NewPCG(9, 9))
	draw := func(cols int) tensor.Matrix {
		x := tensor.NewMatrix(300, cols)
		for i := range x.Data {
			x.Data[i] = float32(r.NormFloat64())
		}
		return x
	}
	q, k, v := draw(256), draw(128), draw(128)
	c := cpu.New()
	m := kernels.NewAttentionMeter(cfg, c, candidates)
	got, want := tensor.NewMatrix(300, 256), tensor.NewMatrix(300, 256)
	m.Attend(1, got, q, k, v, a)
	c.Attend(want, q, k, v, a)
	if !slices.Equal(got.Data, want.Data) {
		t.Error("the meter's output is not exact attention")
	}
	measured := m.Measured()
	for i, least := range []float64{0.98, 0.999, 0.998} {
		e := measured[1][i]
		if e.Mode != candidates[i] || !(e.WorstCosine >= least && e.WorstCosine <= e.Cosine && e.Cosine < 1 && e.RelativeL1 > 0 && e.RelativeL1 <= e.WorstRelativeL1) {
			t.Errorf("%v: %+v, want a cosine of at least %v", candidates[i], e, least)
		}
		if e := measured[0][i]; e.Cosine != 1 || e.RelativeL1 != 0 {
			t.Errorf("a layer that was not shown: %+v", e)
		}
	}

	plan := kernels.ChoosePlan(measured, kernels.PlanOptions{MinCosine: 0.999, Fraction: 1})
	if plan.Layers[0].Mode != kernels.AttentionInt4 || plan.Layers[1].Mode != kernels.AttentionInt8 {
		t.Errorf("plan %v", plan)
	}
	attend, err := kernels.NewAttend(plan, cfg, c)
	if err != nil {
		t.Fatal(err)
	}
	attend(1, got, q, k, v, a)
	err = c.Attention(want, tensor.Matrix{}, q, k, v, kernels.Attention{
		Batch: 1, Heads: 4, KVHeads: 2, HeadDim: 64, Queries: 300, Keys: 300, Causal: true, Scale: 0.125,
		Format: kernels.PlannedFormat(kernels.AttentionInt8),
	})
	if err != nil || !slices.Equal(got.Data, want.Data) {
		t.Errorf("the plan's attention is not its mode's (%v)", err)
	}
	if _, err := kernels.NewAttend(plan, &model.Config{Layers: 3}, c); err == nil {
		t.Error("a plan of 2 layers ran a model of 3")
	}
}
