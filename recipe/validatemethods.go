package recipe

import (
	"fmt"
	"slices"
)

// report takes a fault: field, what was found, what was wanted, the way out.
type report func(field, found, wanted, hint string)

// defaultDamp is GPTQ's (methods.md 4.3).
const defaultDamp = 0.01

func (w Weights) validateGPTQ(bad report) {
	if w.Rounding != GPTQ {
		const hint = "only rounding: gptq reads it; remove the line"
		if w.Damp != 0 {
			bad("weights.damp", fmt.Sprint(w.Damp), "rounding: gptq", hint)
		}
		if w.ActOrder {
			bad("weights.act_order", "true", "rounding: gptq", hint)
		}
		if w.Target != OwnOutput {
			bad("weights.target", w.Target.String(), "rounding: gptq", hint)
		}
		return
	}
	if !(w.Damp > 0 && w.Damp <= 1) {
		bad("weights.damp", fmt.Sprint(w.Damp), "more than 0, at most 1", "0.01 is usual")
	}
}

func (r Rotation) validate(bad report) {
	if r.Down != NoTurn && r.Down != Hadamard {
		bad("rotation.down", r.Down.String(), "none or hadamard", "a transform at run time has to be fast")
	}
	random := r.Residual == RandomHadamard || r.Residual == PCAHadamard || r.Values == RandomHadamard || r.Values == PCAHadamard
	if r.Seed != 0 && !random {
		bad("rotation.seed", fmt.Sprint(r.Seed), "a random rotation", "nothing here is random; remove the line")
	}
}

func (r Rope) validate(kv KVFormat, bad report) {
	if r.TopK > 0 && kv != KVInt4 {
		bad("rope.top_k", fmt.Sprint(r.TopK), "kv.format: int4", "these scales act where keys are cached in INT4; remove the line")
	}
	positive := func(field string, v float64, used bool, by string) {
		switch {
		case used && !(v > 0 && v < 1e6):
			bad("rope."+field, fmt.Sprint(v), "a positive number", "")
		case !used && v != 0:
			bad("rope."+field, fmt.Sprint(v), by, "nothing reads it; remove the line")
		}
	}
	positive("alpha", r.Alpha, r.Method != NoRope, "a method")
	positive("exponent", r.Exponent, r.Method == FireQRope, "method: fireq")
	if r.Statistic != Max && r.Method != FireQRope {
		bad("rope.statistic", r.Statistic.String(), "method: fireq", "nothing reads it; remove the line")
	}
	positive("beta", r.Beta, r.TopK > 0, "top_k above 0")
	if r.TopK < 0 || r.TopK > 1<<12 {
		bad("rope.top_k", fmt.Sprint(r.TopK), "0 to 4096 channels of a head", "")
	}
}

func (s Smoothing) validate(w Weights, bad report) {
	if s.Clip && (w.Search || w.Rounding == GPTQ) {
		bad("smoothing.clip", "true", "weights.search: false and rounding: rtn", "the search of the scales clips too; take one of the two")
	}
	only := func(field string, set bool, found string, m Method) {
		if set && s.Method != m {
			bad("smoothing."+field, found, "method: "+m.String(), "only this method reads it; remove the line")
		}
	}
	only("alpha", s.Alpha != 0, fmt.Sprint(s.Alpha), SmoothQuant)
	only("v_mul", s.VMul != 0, fmt.Sprint(s.VMul), FireQ)
	only("search", s.Search, "true", FireQ)
	only("clip", s.Clip, "true", AWQ)
	if s.Method == SmoothQuant && !(s.Alpha >= 0 && s.Alpha <= 1) {
		bad("smoothing.alpha", fmt.Sprint(s.Alpha), "0 to 1", "")
	}
	if !(s.VMul >= 0 && s.VMul <= 1e3) {
		bad("smoothing.v_mul", fmt.Sprint(s.VMul), "a positive factor", "")
	}
	for i, p := range s.Pairs {
		switch {
		case s.Method == NoSmoothing:
			bad(fmt.Sprintf("smoothing.pairs.%d", i), p.String(), "a method", "")
		case slices.Contains(s.Pairs[:i], p):
			bad(fmt.Sprintf("smoothing.pairs.%d", i), p.String()+" twice", "each pair once", "")
		}
	}
}

func (k KV) validate(bad report) {
	if k.Format != KVInt4 {
		if k.GroupSize != 0 {
			bad("kv.group_size", fmt.Sprint(k.GroupSize), "format: int4", "only INT4 has groups; remove the line")
		}
		if k.Smooth {
			bad("kv.smooth", "true", "format: int4", "no runtime takes means off an FP8 cache; remove the line")
		}
		if k.Symmetric {
			bad("kv.symmetric", "true", "format: int4", "only INT4 has offsets; remove the line")
		}
		return
	}
	if k.GroupSize != 0 && k.GroupSize != 32 && k.GroupSize != 64 {
		bad("kv.group_size", fmt.Sprint(k.GroupSize), "32, 64, or 0 for the whole head", "")
	}
}
