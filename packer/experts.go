package packer

import (
	"fmt"
	"strconv"
	"strings"

	"quantize/model"
)

// RouterPattern is the entry of an ignore list that keeps routers unquantized. An
// expression holds under both names that loaders know ("block_sparse_moe.gate", and
// "mlp.gate" of transformers 5), and matches no gate_proj (docs/formats.md 8).
const RouterPattern = "re:.*gate$"

// Routers names the routers of a model, for formats that list modules.
func Routers(c *model.Config) []string {
	var out []string
	for _, e := range model.Tensors(c) {
		if e.Kind == model.KindRouter {
			out = append(out, e.Module)
		}
	}
	return out
}

// ExpertOf returns the name of all experts of a block for a linear of one of them,
// and which one: "model.layers.0.mlp.experts" and 7; -1 for other linears.
func ExpertOf(module string) (layer string, expert int) {
	const part = ".experts."
	i := strings.Index(module, part)
	if i < 0 {
		return module, -1
	}
	number, _, ok := strings.Cut(module[i+len(part):], ".")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 {
		return module, -1
	}
	return module[:i+len(part)-1], n
}

// ofExperts are the linears of experts.
func ofExperts(ls []LinearShape) []LinearShape {
	var out []LinearShape
	for _, l := range ls {
		if _, e := ExpertOf(l.Name); e >= 0 {
			out = append(out, l)
		}
	}
	return out
}

// expertEdge is what vLLM's W4A8 kernel for experts wants hidden size and
// intermediate size of each GPU to be multiples of (docs/formats.md 5.2).
const expertEdge = 256

// oddExperts lists the linears of experts that its kernel does not take.
func oddExperts(ls []LinearShape) []string { return misfits(ofExperts(ls), expertEdge, expertEdge) }

// slowExperts lists the linears of experts that vLLM's Marlin kernel for 16-bit
// activations does not take as they are (docs/formats.md 4.1): hidden size in 128s,
// intermediate size of each GPU in 64s and in groups. The hidden size is K of gate
// and up and N of down.
func slowExperts(ls []LinearShape, group int) []string {
	var wide, down []LinearShape
	for _, l := range ofExperts(ls) {
		if name := last(l.Name); name == "down_proj" || name == "w2" {
			down = append(down, l)
		} else {
			wide = append(wide, l)
		}
	}
	const hidden = 128
	width := max(64, group)
	return append(misfits(wide, width, hidden), misfits(down, hidden, width)...)
}

// slowExpertsText says so, "" where there are none.
func slowExpertsText(ls []LinearShape, group int) string {
	slow := slowExperts(ls, group)
	if len(slow) == 0 {
		return ""
	}
	return fmt.Sprintf("experts are not as Marlin has them, hidden size in 128s and intermediate size in %ds: %s; which kernel they get is not known",
		max(64, group), strings.Join(slow, ", "))
}
