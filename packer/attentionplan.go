package packer

import (
	"fmt"
	"math"
	"strings"

	"quantize/internal/fault"
)

// AttentionPlan says what the attention of each layer multiplies, and what that was
// found to cost. The arithmetic that a mode stands for is kernels.PlannedFormat's. Keys and
// values have been through the cache before (Sidecar.KV), as in a kernel that reads one.
// Only the kernels of this program follow a plan; to other runtimes a checkpoint with
// one is the checkpoint without it.
type AttentionPlan struct {
	// MinCosine is the budget that the modes were chosen within; 0: nothing was measured.
	MinCosine float64        `json:"min_cosine,omitempty"`
	Layers    []PlannedLayer `json:"layers"` // by layer
}

// PlannedLayer is the attention of one layer.
type PlannedLayer struct {
	Mode AttentionMode `json:"mode"`
	// AttentionError is that of Mode, zero of bf16.
	AttentionError
	// Candidates are all that were measured, in the order of the recipe.
	Candidates []MeasuredAttention `json:"candidates,omitempty"`
}

// MeasuredAttention is a mode with what it costs a layer.
type MeasuredAttention struct {
	Mode AttentionMode `json:"mode"`
	AttentionError
}

// AttentionError compares the outputs o of a quantized attention with those of exact
// attention, o*, over the calibration windows (SageAttention's measures, docs/methods.md
// 0.3), rounded to six decimals:
//
//	cosine       Σ o·o* / sqrt(Σ o² · Σ o*²)
//	relative L1  Σ |o - o*| / Σ |o*|
//
// The zero value says that nothing was measured.
type AttentionError struct {
	Cosine          float64 `json:"cosine,omitempty"`            // over all heads together
	WorstCosine     float64 `json:"worst_cosine,omitempty"`      // of the worst head
	RelativeL1      float64 `json:"relative_l1,omitempty"`       // over all heads together
	WorstRelativeL1 float64 `json:"worst_relative_l1,omitempty"` // of the worst head
}

// Score is cos·(1 - relative L1), by which SageAttention2 orders layers
// (docs/methods.md 2.9).
func (e AttentionError) Score() float64 { return e.Cosine * (1 - e.RelativeL1) }

// String counts the layers of each mode, for example "int8-qk in 28 of 30 layers, bf16
// in 2".
func (p *AttentionPlan) String() string {
	counts := make([]int, len(attentionModeNames))
	for _, l := range p.Layers {
		counts[l.Mode]++
	}
	var parts []string
	for mode := len(counts) - 1; mode >= 0; mode-- {
		switch n := counts[mode]; {
		case n == 0:
		case len(parts) == 0:
			parts = append(parts, fmt.Sprintf("%v in %d of %d layers", AttentionMode(mode), n, len(p.Layers)))
		default:
			parts = append(parts, fmt.Sprintf("%v in %d", AttentionMode(mode), n))
		}
	}
	return strings.Join(parts, ", ")
}

// check demands known modes, no more candidates than there are of them, and numbers that a measurement can give.
func (p *AttentionPlan) check() error {
	if n := len(p.Layers); n < 1 || n > maxSidecarLayers {
		return &fault.Error{Err: ErrOption, Where: SidecarPath, Found: fmt.Sprintf("an attention plan of %d layers", n), Wanted: fmt.Sprintf("1 to %d", maxSidecarLayers)}
	}
	bad := func(layer int, found, wanted string) error {
		return &fault.Error{Err: ErrOption, Where: fmt.Sprintf("%s attention plan layer %d", SidecarPath, layer), Found: found, Wanted: wanted}
	}
	if !(p.MinCosine >= 0 && p.MinCosine <= 1) {
		return &fault.Error{Err: ErrOption, Where: SidecarPath + " attention plan", Found: fmt.Sprintf("a least cosine of %v", p.MinCosine), Wanted: "0 to 1"}
	}
	for layer, l := range p.Layers {
		if n := len(l.Candidates); n > len(attentionModeNames) {
			return bad(layer, fmt.Sprintf("%d candidates", n), fmt.Sprintf("at most %d, one a mode", len(attentionModeNames)))
		}
		for _, m := range append([]MeasuredAttention{{l.Mode, l.AttentionError}}, l.Candidates...) {
			if !m.Mode.Known() {
				return bad(layer, fmt.Sprintf("mode %d", m.Mode), "bf16, fp8, int8-qk or int4-qk")
			}
			for _, c := range []float64{m.Cosine, m.WorstCosine} {
				if !(c >= -1 && c <= 1) {
					return bad(layer, fmt.Sprintf("a cosine of %v", c), "-1 to 1")
				}
			}
			for _, e := range []float64{m.RelativeL1, m.WorstRelativeL1} {
				if !(e >= 0 && e <= math.MaxFloat64) {
					return bad(layer, fmt.Sprintf("a relative error of %v", e), "0 or more")
				}
			}
		}
	}
	return nil
}
