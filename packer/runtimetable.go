package packer

import (
	"fmt"
	"strings"

	"quantize/model"
	"quantize/tensor"
)

// Verdict says whether a runtime loads a checkpoint on a generation of GPUs, split
// over some of them, and why or why not.
type Verdict struct {
	Runtime        string `json:"runtime"`
	GPU            string `json:"gpu"`
	TensorParallel int    `json:"tensor_parallel"`
	Loads          bool   `json:"loads"`
	Reason         string `json:"reason"`
}

// generation is a family of GPUs by compute capability.
type generation struct {
	name string
	sm   int
}

var generations = []generation{
	{"Turing (SM75)", 75}, {"Ampere (SM80)", 80}, {"Ada (SM89)", 89}, {"Hopper (SM90)", 90}, {"Blackwell (SM100)", 100}, {"Blackwell (SM120)", 120},
}

// TensorParallel are the degrees that tables show.
var TensorParallel = []int{1, 2, 4, 8}

// RuntimeTable says of each runtime, GPU and degree of tensor parallelism whether a
// checkpoint of model c loads, in which linears have scheme s with that group size.
// It is made from the configuration alone. The rules are those of docs/formats.md 3.4,
// 4, 5, 11 and 12: of vLLM 0.26 on SM90 and of transformers 5.17 they were seen
// to hold, the others were read.
func RuntimeTable(c *model.Config, s Scheme, groupSize int, linears []LinearShape) []Verdict {
	t := table{config: c, group: groupSize, linears: linears}
	switch s {
	case W4A8:
		t.each("vLLM, W4A8 (config.json)", t.w4a8)
		t.each("vLLM, W4A16 (w4a16/config.json)", t.w4a16)
		t.each("SGLang", never("its W4A8 path takes MoE experts only; give it w4a16/config.json, or quantize convert --to gptq"))
		t.each("TensorRT-LLM", never("it reads no INT4 from compressed-tensors: quantize convert --to modelopt"))
		t.each("TensorRT-LLM, after quantize convert --to modelopt", t.modelopt)
	case W4A16:
		t.each("vLLM, W4A16", t.w4a16)
		t.each("SGLang", t.sglangInt4)
		t.each("TensorRT-LLM", never("it reads no INT4 from compressed-tensors, and modelopt's W4A8_AWQ needs scheme W4A8_FP8"))
	case FP8:
		t.each("vLLM, FP8", t.fp8)
		t.each("SGLang", t.sglangFP8)
		t.each("TensorRT-LLM", t.tensorRTFP8)
	default:
		panic("packer: runtimes of an unset scheme")
	}
	t.rows = append(t.rows, Verdict{
		"transformers", "any GPU or none", 1, true,
		"with compressed-tensors 0.15 or newer; it computes in 16 bits and is slow. From 0.18 on a group without a format is guessed, wrongly for W4A8: the format is written in both places",
	})
	return t.rows
}

type table struct {
	config  *model.Config
	group   int
	linears []LinearShape
	rows    []Verdict
}

// rule says whether a rank loads its share of the layers, as the runtime merges
// them, on a GPU.
type rule func(wide []LinearShape, g generation) (loads bool, reason string)

func never(reason string) rule {
	return func([]LinearShape, generation) (bool, string) { return false, reason }
}

func (t *table) each(runtime string, r rule) {
	for _, g := range generations {
		for _, degree := range TensorParallel {
			wide, why := t.split(degree)
			loads := false
			if why == "" {
				loads, why = r(wide, g)
			}
			t.rows = append(t.rows, Verdict{runtime, g.name, degree, loads, why})
		}
	}
}

// split gives the share of one of degree ranks: output features of q, k, v, gate
// and up are shared out, input features of o and down. Key-value heads are repeated
// where there are fewer than ranks. Otherwise it says why there is no such share.
func (t *table) split(degree int) (wide []LinearShape, why string) {
	c := t.config
	switch {
	case c.Heads%degree != 0:
		return nil, fmt.Sprintf("%d heads cannot be shared by %d GPUs", c.Heads, degree)
	case c.KVHeads%degree != 0 && degree%c.KVHeads != 0:
		return nil, fmt.Sprintf("%d key-value heads cannot be shared by %d GPUs", c.KVHeads, degree)
	}
	roles := map[string]model.Role{}
	for _, e := range model.Tensors(c) {
		if e.Kind == model.KindLinear {
			roles[e.Module] = e.Role
		}
	}
	var share []LinearShape
	for _, l := range t.linears {
		n, k := l.N, l.K
		switch roles[l.Name] {
		case model.RoleK, model.RoleV:
			n = max(c.KVHeads/degree, 1) * c.HeadDim
		case model.RoleO, model.RoleDown, model.RoleExpertDown:
			if k%degree != 0 {
				return nil, fmt.Sprintf("%d input features of %s cannot be shared by %d GPUs", k, last(l.Name), degree)
			}
			k /= degree
		default:
			if n%degree != 0 {
				return nil, fmt.Sprintf("%d output features of %s cannot be shared by %d GPUs", n, last(l.Name), degree)
			}
			n /= degree
		}
		share = append(share, LinearShape{l.Name, n, k})
	}
	return fusedShapes(share), ""
}

// vllmSince is what an older vLLM stumbles over.
const vllmSince = "vLLM with compressed-tensors 0.11 or newer (autumn 2025): older ones reject a format inside a group"

func (t *table) w4a8(wide []LinearShape, g generation) (bool, string) {
	switch odd := misfits(wide, 128, 128); {
	case g.sm != 90:
		return false, "the kernel is for SM90 exactly, and nothing else takes this configuration: use w4a16/config.json"
	case t.group != 128:
		return false, fmt.Sprintf("its kernel has groups of 128 only, not %d", t.group)
	case len(odd) > 0:
		return false, "N and K of each GPU must be multiples of 128, unlike " + strings.Join(odd, ", ")
	case len(oddExperts(wide)) > 0:
		return false, "N and K of experts on each GPU must be multiples of 256, unlike " + strings.Join(oddExperts(wide), ", ")
	case t.config.DType == tensor.F16 || t.config.DType == tensor.F32:
		return true, "with --dtype bfloat16, the only type of its kernel's output; " + vllmSince
	}
	return true, vllmSince
}

func (t *table) w4a16(wide []LinearShape, g generation) (bool, string) {
	switch {
	case len(misfits(wide, 1, t.group)) > 0:
		return false, fmt.Sprintf("each GPU needs whole groups of %d, unlike %s", t.group, strings.Join(misfits(wide, 1, t.group), ", "))
	case slowExpertsText(wide, t.group) != "":
		return true, slowExpertsText(wide, t.group)
	case len(misfits(wide, 64, 32)) > 0:
		return true, "slower kernels only: N is no multiple of 64 in " + strings.Join(misfits(wide, 64, 32), ", ")
	case g.sm == 90 && t.group >= 64 && len(misfits(wide, 128, 64)) == 0:
		return true, "Machete; " + vllmSince
	case g.sm == 90 && t.group >= 64:
		return true, "Machete where N is a multiple of 128, Marlin elsewhere; " + vllmSince
	}
	return true, "Marlin; " + vllmSince
}

func (t *table) fp8(_ []LinearShape, g generation) (bool, string) {
	if g.sm < 89 {
		return true, "weight-only through Marlin: this GPU has no FP8; " + vllmSince
	}
	return true, vllmSince
}

func (t *table) sglangInt4(wide []LinearShape, g generation) (bool, string) {
	switch {
	case g.sm < 80:
		return false, "SGLang needs SM80"
	case len(misfits(wide, 64, t.group)) > 0:
		return false, fmt.Sprintf("N in 64s and whole groups of %d, unlike %s", t.group, strings.Join(misfits(wide, 64, t.group), ", "))
	}
	return true, "several versions take the kernels of an installed vLLM"
}

func (t *table) sglangFP8(_ []LinearShape, g generation) (bool, string) {
	if g.sm < 89 {
		return false, "this GPU has no FP8"
	}
	return true, "several versions take the kernels of an installed vLLM"
}

func (t *table) tensorRTFP8(_ []LinearShape, g generation) (bool, string) {
	if g.sm < 89 {
		return false, "this GPU has no FP8"
	}
	return true, "readers that know several groups reject the class target \"Linear\": quantize convert --to modelopt is read by all"
}

func (t *table) modelopt(wide []LinearShape, g generation) (bool, string) {
	switch {
	case len(ofExperts(wide)) > 0:
		return false, "convert writes no experts for it: use w4a16/config.json elsewhere"
	case g.sm < 89:
		return false, "this GPU has no FP8"
	case g.sm > 90:
		return false, "no W4A8_AWQ kernel is known for this GPU"
	case t.group != 128:
		return false, fmt.Sprintf("W4A8_AWQ has groups of 128, not %d", t.group)
	case len(misfits(wide, 2, 128)) > 0:
		return false, "K of each GPU must be a multiple of 128, unlike " + strings.Join(misfits(wide, 2, 128), ", ")
	}
	return true, "convert needs calibration text: activation scales are static"
}

// Degrees sums a table up for people: a line for a runtime and the GPUs of which
// the same holds, with the degrees that load.
func Degrees(rows []Verdict) []string {
	var out []string
	var runtime, gpus, text string
	flush := func() {
		if gpus != "" {
			out = append(out, runtime+" on "+gpus+": "+text)
		}
	}
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Runtime == rows[0].Runtime && rows[n].GPU == rows[0].GPU {
			n++
		}
		if t := degrees(rows[:n]); t == text && rows[0].Runtime == runtime {
			gpus += ", " + rows[0].GPU
		} else {
			flush()
			runtime, gpus, text = rows[0].Runtime, rows[0].GPU, t
		}
		rows = rows[n:]
	}
	flush()
	return out
}

// degrees describes the degrees of one runtime on one GPU.
func degrees(rows []Verdict) string {
	var yes, no []string
	why, whyNot := "", ""
	for _, r := range rows {
		list, reason := &no, &whyNot
		if r.Loads {
			list, reason = &yes, &why
		}
		*list = append(*list, fmt.Sprint(r.TensorParallel))
		if *reason == "" {
			*reason = r.Reason
		}
	}
	switch {
	case len(no) == 0:
		return "TP " + strings.Join(yes, ", ") + " (" + why + ")"
	case len(yes) == 0:
		return "no, " + whyNot
	default:
		return "TP " + strings.Join(yes, ", ") + " (" + why + "); not " + strings.Join(no, ", ") + ", " + whyNot
	}
}
