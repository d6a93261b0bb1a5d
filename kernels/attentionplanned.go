package kernels

import (
	"fmt"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// PlannedFormat is the arithmetic that a mode stands for in a plan of
// packer.Sidecar: part of the file format, so it does not change under the same version.
//
//	bf16      nothing is rounded
//	fp8       E4M3 by thread groups, smooth K
//	int8-qk   INT8 by thread groups, smooth K             SageAttention2's 8 bits (docs/methods.md 2.4, 2.5)
//	int4-qk   INT4 by thread groups, smooth K, smooth Q   its 4 bits
//
// Keys are smoothed and values scaled over the tokens of one call: a prompt of a kernel,
// a window of an evaluation.
func PlannedFormat(m AttentionMode) AttentionFormat {
	if m == AttentionBF16 {
		return AttentionFormat{}
	}
	return AttentionFormat{Mode: m, Granularity: PerThread, SmoothK: true, SmoothQ: m == AttentionInt4}
}

// PlanCompute is what plans are made and run on.
type PlanCompute interface {
	model.Compute
	Attender
}

// NewAttend returns the model.Runtime.Attend of a plan: c.Attend where the plan has bf16,
// c.Attention in the planned format elsewhere. A nil plan gives nil. A plan of another
// number of layers is packer.ErrInvalid.
func NewAttend(plan *packer.AttentionPlan, cfg *model.Config, c PlanCompute) (func(layer int, dst, q, k, v tensor.Matrix, a model.Attention), error) {
	if plan == nil {
		return nil, nil
	}
	if n := len(plan.Layers); n != cfg.Layers {
		return nil, otherSidecar("attention plan", fmt.Sprintf("%d layers", n), fmt.Sprintf("%d layers", cfg.Layers))
	}
	for layer, l := range plan.Layers {
		if !l.Mode.Known() {
			return nil, &fault.Error{Err: packer.ErrInvalid, Where: fmt.Sprintf("attention plan layer %d", layer), Found: fmt.Sprintf("mode %d", l.Mode), Wanted: "a known one"}
		}
	}
	return func(layer int, dst, q, k, v tensor.Matrix, a model.Attention) {
		attendIn(c, plan.Layers[layer].Mode, dst, q, k, v, a)
	}, nil
}

// attendIn is c.Attend in a mode. What an implementation lacks shows in the first call,
// and every implementation of PlanCompute has all planned formats: an error is a mistake
// of this program.
func attendIn(c PlanCompute, m AttentionMode, dst, q, k, v tensor.Matrix, a model.Attention) {
	if m == AttentionBF16 {
		c.Attend(dst, q, k, v, a)
		return
	}
	err := c.Attention(dst, tensor.Matrix{}, q, k, v, Attention{
		Batch: 1, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim, Queries: q.Rows, Keys: k.Rows,
		Scale: a.Scale, Causal: true, Window: a.Window, Format: PlannedFormat(m),
	})
	if err != nil {
		panic("kernels: attention in a planned format: " + err.Error())
	}
}
