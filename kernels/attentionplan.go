package kernels

import (
	"cmp"
	"math"
	"slices"

	"quantize/packer"
)

// PlanOptions say how [ChoosePlan] chooses.
type PlanOptions struct {
	// MinCosine is the least cosine to exact attention of a layer's worst head.
	MinCosine float64
	// Fraction is the largest share of layers that may be quantized, 1 for all.
	Fraction float64
}

// attentionCost orders modes by what they cost: INT8 and FP8 products are equally fast.
// INT4 products are faster where a card has them. Hopper has none and multiplies INT4
// codes as INT8: there int4-qk costs what int8-qk does and loses more, so that it
// should be a candidate only for other cards, or to see what it would do.
func attentionCost(m AttentionMode) int {
	switch m {
	case AttentionInt4:
		return 0
	case AttentionInt8, AttentionFP8:
		return 1
	default:
		return 2
	}
}

// ChoosePlan gives each layer the cheapest candidate (int4-qk, then int8-qk and fp8)
// whose worst head keeps the budget, of two that cost the same the better by
// cos·(1 - relative L1), then the first; bf16 where none keeps it. Of the layers only the share Fraction is eligible: those whose
// best candidate by that score is best, the lower layer where two are equal
// (SageAttention's adaptive selection; docs/methods.md 2.3, 2.9). measured has, for every
// layer, all candidates in their order.
//
// A larger MinCosine or a smaller Fraction never gives a layer a cheaper mode.
func ChoosePlan(measured [][]packer.MeasuredAttention, o PlanOptions) *packer.AttentionPlan {
	plan := &packer.AttentionPlan{MinCosine: o.MinCosine, Layers: make([]packer.PlannedLayer, len(measured))}
	for _, layer := range eligible(measured, o.Fraction) {
		for _, m := range measured[layer] {
			if m.WorstCosine < o.MinCosine {
				continue
			}
			best := &plan.Layers[layer]
			off := cmp.Or(cmp.Compare(attentionCost(m.Mode), attentionCost(best.Mode)), cmp.Compare(best.Score(), m.Score()))
			if off < 0 {
				best.Mode, best.AttentionError = m.Mode, m.AttentionError
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
