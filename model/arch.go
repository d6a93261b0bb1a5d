package model

import (
	"fmt"
	"strings"

	"quantize/internal/fault"
)

// Arch is the table of one architecture. Module names carry no ".weight";
// those of a block are relative to its prefix ("model.layers.7.").
type Arch struct {
	Name      string // architectures[0] of config.json
	ModelType string // model_type of config.json

	Embedding string // token embedding, (Vocab, Hidden)
	FinalNorm string // RMSNorm before the head
	Head      string // output projection; the embedding does its work when tied
	Layers    string // prefix of the blocks, followed by the index and a dot

	AttnNorm, MLPNorm string       // RMSNorms before attention and before the MLP, (Hidden)
	QNorm, KNorm      string       // RMSNorms of each head before RoPE, (HeadDim); "" for none
	Linears           []LinearRule // of a layer without experts, in order of computation
	Feeds             []Feed       // of such a layer
	Experts           *ExpertRule  // nil: no layer has experts
	Pairing           Pairing
	Window            WindowRule

	Defaults Defaults
	// Fixed lists switches that this architecture does not have, each with the
	// only value it may then show (nil: null). Any other value is an error.
	Fixed map[string]any
}

// LinearRule names one linear of a block and says when it has a bias.
type LinearRule struct {
	Role   Role
	Name   string
	Bias   BiasRule
	Expert int // of the expert roles: which one
}

// Role is the place of a linear in a block. Shapes (N, K) follow from it.
type Role uint8

// The linears of a block.
const (
	RoleQ    Role = iota + 1 // (Heads*HeadDim, Hidden), reads AttnIn
	RoleK                    // (KVHeads*HeadDim, Hidden), reads AttnIn
	RoleV                    // (KVHeads*HeadDim, Hidden), reads AttnIn
	RoleO                    // (Hidden, Heads*HeadDim), reads OIn
	RoleGate                 // (Intermediate, Hidden), reads MLPIn
	RoleUp                   // (Intermediate, Hidden), reads MLPIn
	RoleDown                 // (Hidden, Intermediate), reads DownIn

	RoleExpertGate // (ExpertWidth, Hidden), reads the expert's own ExpertIn
	RoleExpertUp   // (ExpertWidth, Hidden), reads the expert's own ExpertIn
	RoleExpertDown // (Hidden, ExpertWidth), reads the expert's own DownIn
)

// Writes reports that the linear adds its output to the residual stream.
func (r Role) Writes() bool { return r == RoleO || r == RoleDown || r == RoleExpertDown }

// Linear names the linear with a role, relative to its block; "" for the roles
// of experts, which are many.
func (a *Arch) Linear(r Role) string {
	for _, l := range a.Linears {
		if l.Role == r {
			return l.Name
		}
	}
	return ""
}

// Input is the activation that the linear reads.
func (l LinearRule) Input() Point { return inputOf(l.Role, l.Expert) }

func inputOf(r Role, expert int) Point {
	switch r {
	case RoleO:
		return OIn
	case RoleGate, RoleUp:
		return MLPIn
	case RoleDown:
		return DownIn
	case RoleExpertGate, RoleExpertUp:
		return ExpertIn.Of(expert)
	case RoleExpertDown:
		return DownIn.Of(expert)
	default:
		return AttnIn
	}
}

// BiasRule says when a linear has a bias.
type BiasRule uint8

// The bias rules; the last two are decided by the config field of that name.
const (
	NoBias BiasRule = iota + 1
	AlwaysBias
	IfAttentionBias // attention_bias
	IfMLPBias       // mlp_bias
)

// Feed is a smoothing pair: the output channels of From are the input channels
// of each of To, with nothing between them that a scale of a channel does not
// pass through. Dividing channel j of From and multiplying column j of every To
// leaves the function alone (SmoothQuant: Xiao et al. 2022,
// arXiv 2211.10438, eq. 3).
type Feed struct {
	Site  Point    // the activation between them
	From  string   // a norm or a linear of the block
	To    []string // all linears that read Site
	Heads bool     // From has KVHeads heads, To reads each of them Heads/KVHeads times
}

// Pairing says which two channels of a head RoPE rotates together.
type Pairing uint8

// The pairings. Every Hugging Face port of these architectures has HalfSplit.
const (
	HalfSplit   Pairing = iota + 1 // channel i with i + dim/2
	Interleaved                    // channel 2i with 2i + 1: the original Llama code, GPT-J
)

// Partner returns the channel that is rotated together with channel c of a head
// whose first dim channels are rotated; -1 for one that is not.
func (p Pairing) Partner(c, dim int) int {
	switch {
	case c >= dim:
		return -1
	case p == Interleaved:
		return c ^ 1
	case c < dim/2:
		return c + dim/2
	default:
		return c - dim/2
	}
}

// Pairs lists the dim/2 pairs of the rotated channels of a head, in the order of
// their frequencies; the first member is the real part.
func (p Pairing) Pairs(dim int) [][2]int {
	pairs := make([][2]int, dim/2)
	for i := range pairs {
		c := i
		if p == Interleaved {
			c = 2 * i
		}
		pairs[i] = [2]int{c, p.Partner(c, dim)}
	}
	return pairs
}

// WindowRule says which layers attend through a sliding window.
type WindowRule uint8

// The window rules.
const (
	NoWindow       WindowRule = iota + 1
	WindowAll                 // sliding_window, when not null, holds in every layer
	WindowByLayers            // use_sliding_window, then layer_types or max_window_layers
)

// Defaults are the values transformers takes for absent fields.
type Defaults struct {
	KVHeads         int // 0: as many as Heads
	HeadDim         int // 0: Hidden / Heads
	MaxPositions    int
	SlidingWindow   int // 0: none
	MaxWindowLayers int
	NormEps         float64 // 0: 1e-6
	RopeTheta       float64 // 0: 10000
}

// architectures is everything this package can run.
var architectures = []*Arch{&llama, &mistral, &qwen2, &qwen3, &mixtral, &qwen3MoE}

// architecture picks the table for architectures[0], or for model_type where a
// config has no architectures.
func architecture(name, modelType string) (*Arch, error) {
	var a *Arch
	for _, known := range architectures {
		if name == known.Name || name == "" && modelType == known.ModelType {
			a = known
		}
	}
	switch {
	case a == nil:
		return nil, &fault.Error{
			Err:    ErrConfig,
			Where:  configFile,
			Found:  fmt.Sprintf("architecture %q, model_type %q", name, modelType),
			Wanted: "one of " + strings.Join(knownArchitectures(), ", "),
			Hint:   "other architectures are not supported",
		}
	case modelType != "" && modelType != a.ModelType:
		return nil, &fault.Error{
			Err:    ErrConfig,
			Where:  configFile + " model_type",
			Found:  fmt.Sprintf("%q beside architecture %s", modelType, name),
			Wanted: fmt.Sprintf("%q", a.ModelType),
		}
	}
	return a, nil
}

func knownArchitectures() []string {
	names := make([]string, len(architectures))
	for i, a := range architectures {
		names[i] = a.Name
	}
	return names
}
