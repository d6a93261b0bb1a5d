package model

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// Kind is the use of a tensor.
type Kind uint8

// The kinds of tensors.
const (
	KindEmbedding Kind = iota + 1 // (Vocab, Hidden)
	KindNorm                      // (width)
	KindLinear                    // (N, K)
	KindBias                      // (N)
	KindHead                      // (Vocab, Hidden), absent with tied embeddings
	KindRouter                    // (Experts, Hidden), never quantized
)

// Expected is a tensor that a checkpoint must have. DType is that of the
// config, Unset if it does not say; any float type is accepted in its place.
type Expected struct {
	checkpoint.Info
	Kind   Kind
	Module string // the tensor's name without .weight or .bias
	Layer  int    // -1 outside the blocks
	Role   Role   // of linears and biases of a block
	Expert int    // of linears of an expert: which one
}

// Input is the activation that a linear reads.
func (e *Expected) Input() Point { return inputOf(e.Role, e.Expert) }

// Tensors lists every tensor of a full-precision checkpoint with this config,
// in the order of computation.
func Tensors(c *Config) []Expected {
	var all []Expected
	put := func(kind Kind, layer int, rule LinearRule, module, part string, shape ...int) {
		all = append(all, Expected{
			Info: checkpoint.Info{Name: module + part, DType: c.DType, Shape: shape},
			Kind: kind, Module: module, Layer: layer, Role: rule.Role, Expert: rule.Expert,
		})
	}
	a, none := c.Arch, LinearRule{}
	put(KindEmbedding, -1, none, a.Embedding, ".weight", c.Vocab, c.Hidden)
	for layer := range c.Layers {
		prefix := c.prefix(layer)
		put(KindNorm, layer, none, prefix+a.AttnNorm, ".weight", c.Hidden)
		if a.QNorm != "" {
			put(KindNorm, layer, none, prefix+a.QNorm, ".weight", c.HeadDim)
			put(KindNorm, layer, none, prefix+a.KNorm, ".weight", c.HeadDim)
		}
		put(KindNorm, layer, none, prefix+a.MLPNorm, ".weight", c.Hidden)
		if c.HasExperts(layer) {
			put(KindRouter, layer, none, prefix+a.Experts.Router, ".weight", c.Experts, c.Hidden)
		}
		for _, l := range c.Linears(layer) {
			n, k := c.Shape(l.Role)
			put(KindLinear, layer, l, prefix+l.Name, ".weight", n, k)
			if c.Biased(l) {
				put(KindBias, layer, l, prefix+l.Name, ".bias", n)
			}
		}
	}
	put(KindNorm, -1, none, a.FinalNorm, ".weight", c.Hidden)
	if !c.TieEmbeddings {
		put(KindHead, -1, none, a.Head, ".weight", c.Vocab, c.Hidden)
	}
	return all
}

func (c *Config) prefix(layer int) string { return fmt.Sprintf("%s%d.", c.Arch.Layers, layer) }

// LayerOf returns the layer of a module of a block, -1 of any other.
func (c *Config) LayerOf(module string) int {
	rest, ok := strings.CutPrefix(module, c.Arch.Layers)
	number, _, dot := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	if !ok || !dot || err != nil || layer >= c.Layers {
		return -1
	}
	return layer
}

// Shape returns N and K of the linear with that role.
func (c *Config) Shape(role Role) (n, k int) {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	switch role {
	case RoleQ:
		return q, c.Hidden
	case RoleK, RoleV:
		return kv, c.Hidden
	case RoleO:
		return c.Hidden, q
	case RoleGate, RoleUp:
		return c.Intermediate, c.Hidden
	case RoleDown:
		return c.Hidden, c.Intermediate
	case RoleExpertGate, RoleExpertUp:
		return c.ExpertWidth, c.Hidden
	case RoleExpertDown:
		return c.Hidden, c.ExpertWidth
	default:
		panic("model: unknown role")
	}
}

// Biased reports whether the linear has a bias under this config.
func (c *Config) Biased(l LinearRule) bool {
	switch l.Bias {
	case AlwaysBias:
		return true
	case IfAttentionBias:
		return c.AttentionBias
	case IfMLPBias:
		return c.MLPBias
	default:
		return false
	}
}

// shownFaults is how many faults Check tells: a config of another model may be at odds with
// every tensor.
const shownFaults = 10

// Check compares a full-precision checkpoint with its config and returns the first
// faults joined, and how many more there are: tensors that are missing, of another
// shape, not floats, or denied by the config ([Strays]).
func Check(c *Config, r *checkpoint.Reader) error {
	if err := unstacked(c, r); err != nil {
		return err
	}
	faults := Strays(c, r.Names()) // which explain what is missing
	for _, want := range Tensors(c) {
		if err := want.check(r); err != nil {
			faults = append(faults, err)
		}
	}
	if more := len(faults) - shownFaults; more > 0 {
		faults = faults[:shownFaults]
		faults = append(faults, fmt.Errorf("%w: %d more tensors are not as config.json says", checkpoint.ErrInvalid, more))
	}
	return errors.Join(faults...)
}

// stackedPrefix is what transformers 5 calls experts in memory, in all families.
const stackedPrefix = "mlp.experts."

// unstacked refuses experts in one 3-D tensor, which transformers has in memory and
// published checkpoints do not have.
func unstacked(c *Config, r *checkpoint.Reader) error {
	for layer := range c.Layers {
		if !c.HasExperts(layer) {
			continue
		}
		for _, prefix := range []string{c.Arch.Experts.Prefix, stackedPrefix} {
			for _, part := range []string{"gate_up_proj", "down_proj"} {
				if name := c.prefix(layer) + prefix + part; r.Has(name) {
					return &fault.Error{
						Err: checkpoint.ErrInvalid, Where: name, Found: "experts stacked in one tensor",
						Wanted: fmt.Sprintf("%s0.%s.weight and so on", c.Arch.Experts.Prefix, c.Arch.Experts.Linears[0].Name),
						Hint:   "save_pretrained of transformers 5 writes one tensor a linear",
					}
				}
			}
		}
	}
	return nil
}

func (e *Expected) check(r *checkpoint.Reader) error {
	got, err := r.Info(e.Name)
	switch {
	case err != nil:
		return err
	case !slices.Equal(got.Shape, e.Shape):
		return shapeFault(e.Name+" in "+r.File(e.Name), got.Shape, e.Shape)
	case !got.DType.IsFloat():
		return &fault.Error{
			Err: checkpoint.ErrInvalid, Where: e.Name + " in " + r.File(e.Name),
			Found: "dtype " + got.DType.String(), Wanted: "a float type",
			Hint: "start from the original weights, in bf16, fp16 or fp32",
		}
	}
	return nil
}

func shapeFault(where string, found, wanted []int) error {
	return &fault.Error{
		Err: checkpoint.ErrInvalid, Where: where,
		Found: fmt.Sprintf("shape %v", found), Wanted: fmt.Sprintf("%v, as config.json says", wanted),
		Hint: "config.json and the weights are of different models: download both again",
	}
}
