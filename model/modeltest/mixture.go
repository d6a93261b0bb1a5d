package modeltest

import (
	"fmt"
	"slices"

	"quantize/model"
)

// mixture is a mixture of experts that runs every expert on every token and
// weighs what the router did not choose with 0.
func mixture(in [][]float64, cfg *model.Config, w Float64, prefix string, online Online) [][]float64 {
	rule := cfg.Arch.Experts
	share := affine(in, w.get(prefix+rule.Router+".weight"), nil)
	for _, p := range share {
		softmax(p)
		least := slices.Sorted(slices.Values(p))[cfg.Experts-cfg.ExpertsPerToken]
		total := 0.0
		for e, v := range p {
			if v < least {
				p[e] = 0
			}
			total += p[e]
		}
		for e := range p {
			if cfg.NormTopK {
				p[e] /= total
			}
		}
	}
	out := make([][]float64, len(in))
	for i := range out {
		out[i] = make([]float64, cfg.Hidden)
	}
	for e := range cfg.Experts {
		apply := func(role model.Role, x [][]float64) [][]float64 {
			for _, l := range rule.Linears {
				if l.Role == role {
					return affine(x, w.get(fmt.Sprintf("%s%s%d.%s.weight", prefix, rule.Prefix, e, l.Name)), nil)
				}
			}
			panic("modeltest: no linear of an expert with that role")
		}
		y := apply(model.RoleExpertDown, gated(apply(model.RoleExpertGate, in), apply(model.RoleExpertUp, in), online))
		for i, row := range y {
			for j, v := range row {
				out[i][j] += share[i][e] * v
			}
		}
	}
	return out
}
