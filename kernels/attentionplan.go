package kernels

import (
	"cmp"
	"math"
	"slices"

	"quantize/packer"
)

// PlanOptions say how [ChoosePlan] chooses.
type PlanOptions struct {
	// Candidates are the modes to choose from, the most wanted first: usually the
	// cheapest. bf16 need not be among them, it is what is left. On Hopper INT4 codes are
	// multiplied as INT8, so that int4-qk costs what int8-qk does and loses more: it is
	// for a card with INT4 products, or to see what it would do.
	Candidates []AttentionMode
	// MinCosine is the least cosine to exact attention of a layer's worst head.
	MinCosine float64
	// Fraction is the largest share of layers that may be quantized, 1 for all.
	Fraction float64
}

// ChoosePlan gives each layer the first candidate whose worst head keeps the budget,
// bf16 where none does. Of the layers only the share Fraction is eligible: those whose
// best candidate by cos·(1 - relative L1) is best, the lower layer where two are equal
// (SageAttention's adaptive selection; docs/methods.md 2.3, 2.9). measured has, for every
// layer, all candidates in their order.
//
// A larger MinCosine or a smaller Fraction never gives a layer an earlier candidate.
func ChoosePlan(measured [][]packer.MeasuredAttention, o PlanOptions) *packer.AttentionPlan {
	plan := &packer.AttentionPlan{MinCosine: o.MinCosine, Layers: make([]packer.PlannedLayer, len(measured))}
	for _, layer := range eligible(measured, o.Fraction) {
		for _, m := range measured[layer] {
			if m.Mode != AttentionBF16 && m.WorstCosine >= o.MinCosine {
				plan.Layers[layer] = packer.PlannedLayer{Mode: m.Mode, AttentionError: m.AttentionError}
				break
			}
		}
	}
	for layer := range plan.Layers {
		plan.Layers[layer].Candidates = measured[layer]
	}
	return plan
}

// eligible are the layers that may be quantized, best first.
func eligible(measured [][]packer.MeasuredAttention, fraction float64) []int {
	layers := make([]int, len(measured))
	best := make([]float64, len(measured))
	for layer, list := range measured {
		layers[layer], best[layer] = layer, math.Inf(-1)
		for _, m := range list {
			best[layer] = max(best[layer], m.Score())
		}
	}
	slices.SortStableFunc(layers, func(a, b int) int { return cmp.Compare(best[b], best[a]) })
	const slack = 1e-9 // 0.3·10 is 2.9999999999999996 of layers
	return layers[:min(len(layers), int(fraction*float64(len(layers))+slack))]
}

// UniformPlan is the same mode in every layer, measured nowhere.
func UniformPlan(mode AttentionMode, layers int) *packer.AttentionPlan {
	p := &packer.AttentionPlan{Layers: make([]packer.PlannedLayer, layers)}
	for layer := range p.Layers {
		p.Layers[layer].Mode = mode
	}
	return p
}
