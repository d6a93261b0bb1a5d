package packer

import (
	"fmt"
	"strings"
)

// Runtimes says in sentences which runtimes load a checkpoint in which linears
// have scheme s with that group size, unsplit (tensor parallel 1). Modules that
// runtimes merge into one (q, k, v; gate, up) count with the sum of their
// output features. The rules are those of vLLM 0.26 and
// transformers 5.17, which were run.
func Runtimes(s Scheme, groupSize int, linears []LinearShape) []string {
	wide := fusedShapes(linears)
	switch s {
	case W4A8:
		var out []string
		if odd := misfits(wide, 128, 128); groupSize != 128 {
			out = append(out, fmt.Sprintf("vLLM W4A8 (config.json): does not load, its kernel has group size 128 only, not %d", groupSize))
		} else if len(odd) > 0 {
			out = append(out, "vLLM W4A8 (config.json): does not load, N and K must be multiples of 128, unlike "+strings.Join(odd, ", "))
		} else if odd := oddExperts(wide); len(odd) > 0 {
			out = append(out, "vLLM W4A8 (config.json): does not load, N and K of experts must be multiples of 256, unlike "+strings.Join(odd, ", "))
		} else {
			out = append(out, "vLLM W4A8 (config.json): Hopper (SM90) only, --dtype bfloat16")
		}
		out = append(out, weightOnly("vLLM W4A16 (--hf-config-path OUT/w4a16)", groupSize, wide))
		return append(out, "transformers with compressed-tensors: either config file, on any device, slowly")
	case W4A16:
		return []string{weightOnly("vLLM W4A16", groupSize, wide), "transformers with compressed-tensors: any device, slowly"}
	case FP8:
		return []string{
			"vLLM FP8: SM89 and newer; older cards run it weight-only through Marlin",
			"transformers with compressed-tensors: any device, slowly",
		}
	default:
		panic("packer: runtimes of an unset scheme")
	}
}

// weightOnly names the weight-only kernels that take all layers. Marlin pads
// nothing: N in 64s; Machete N in 128s, K in 64s, no groups of 32. vLLM picks by
// layer.
func weightOnly(who string, group int, wide []LinearShape) string {
	switch {
	case slowExpertsText(wide, group) != "":
		return who + ": " + slowExpertsText(wide, group)
	case len(misfits(wide, 64, 32)) > 0:
		return who + ": slower kernels only, N is no multiple of 64 in " + strings.Join(misfits(wide, 64, 32), ", ")
	case group < 64:
		return who + ": Marlin from Turing (SM75) on"
	case len(misfits(wide, 128, 64)) == 0:
		return who + ": Machete on Hopper (SM90), Marlin from Turing (SM75) on"
	default:
		return who + ": Marlin from Turing (SM75) on (on Hopper partly Machete)"
	}
}

// misfits lists the layers, one of each kind, whose N or K is no multiple.
func misfits(ls []LinearShape, n, k int) []string {
	seen := map[string]bool{}
	var out []string
	for _, l := range ls {
		kind := fmt.Sprintf("%s (%dx%d)", l.Name[strings.LastIndexByte(l.Name, '.')+1:], l.N, l.K)
		if (l.N%n != 0 || l.K%k != 0) && !seen[kind] {
			seen[kind] = true
			out = append(out, kind)
		}
	}
	return out
}

// fusedShapes merges q, k, v and gate, up of a block, as vLLM does. Experts stay
// apart: the rules for them are about one.
func fusedShapes(ls []LinearShape) []LinearShape {
	at := map[string]int{}
	var out []LinearShape
	for _, l := range ls {
		if _, expert := ExpertOf(l.Name); expert >= 0 {
			out = append(out, l)
			continue
		}
		l.Name, _ = FusedName(l.Name)
		if i, ok := at[l.Name]; ok {
			out[i].N += l.N
			continue
		}
		at[l.Name] = len(out)
		out = append(out, l)
	}
	return out
}
