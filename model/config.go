package model

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/tensor"
)

// ErrConfig marks a config.json that is malformed or asks for mathematics this
// package does not have. It is also a [checkpoint.ErrInvalid].
var ErrConfig = fmt.Errorf("unsupported config: %w", checkpoint.ErrInvalid)

const configFile = "config.json"

// Upper bounds of the dimensions: far above every published model, and low
// enough that no product of two of them overflows or surprises an allocator.
const (
	maxConfigBytes = 16 << 20
	maxLayers      = 1 << 12
	maxHeads       = 1 << 12
	maxHeadDim     = 1 << 12
	maxWidth       = 1 << 20 // hidden, intermediate, Heads*HeadDim
	maxVocab       = 1 << 24
	maxPositions   = 1 << 30
)

// MaxExperts bounds the experts of a model, in all layers together.
const MaxExperts = 1 << 16

// Config is the meaning of a config.json in either spelling (rope_theta,
// rope_scaling, torch_dtype; or rope_parameters, dtype).
type Config struct {
	Arch      *Arch
	ModelType string

	Hidden       int
	Intermediate int
	Layers       int
	Heads        int // query heads
	KVHeads      int // key and value heads; divides Heads
	HeadDim      int // even
	Vocab        int
	MaxPositions int
	NormEps      float64

	TieEmbeddings bool // the embedding matrix is also the head
	AttentionBias bool // biases of q, k, v where the table says IfAttentionBias
	MLPBias       bool // biases of gate, up, down where the table says IfMLPBias

	Experts         int    // in a layer that has experts; 0: no layer has
	ExpertsPerToken int    // that the router chooses
	ExpertWidth     int    // intermediate size of an expert
	NormTopK        bool   // the shares of the chosen ones are made to sum to 1
	Sparse          []bool // by layer: experts in the place of the MLP; nil: none

	SlidingWindow int    // tokens a query sees, itself included; 0 if no layer has a window
	Sliding       []bool // by layer: whether SlidingWindow holds there

	Rope  Rope
	DType tensor.DType // of the stored weights; Unset if the config does not say
}

// Window returns the sliding window of a layer, 0 for none.
func (c *Config) Window(layer int) int {
	if c.SlidingWindow > 0 && c.Sliding[layer] {
		return c.SlidingWindow
	}
	return 0
}

// ParseConfig reads a config.json. Every field must be one that is handled,
// one that shows its neutral value, or one known not to touch the logits; all
// faults are returned joined, each an [fault.Error] wrapping [ErrConfig].
func ParseConfig(data []byte) (*Config, error) {
	if len(data) > maxConfigBytes {
		return nil, &fault.Error{
			Err: ErrConfig, Where: configFile,
			Found: fmt.Sprintf("%d bytes", len(data)), Wanted: fmt.Sprintf("at most %d", maxConfigBytes),
		}
	}
	if err := checkpoint.UniqueKeys(data); err != nil {
		return nil, &fault.Error{Err: ErrConfig, Where: configFile, Found: err.Error(), Wanted: "each key once", Hint: "remove the one that is not meant"}
	}
	f, err := parseFields(configFile, data)
	if err != nil {
		return nil, err
	}
	var names []string
	f.decode("architectures", "a list of strings", &names)
	if err := errors.Join(f.faults...); err != nil {
		return nil, err
	}
	a, err := architecture(first(names), f.text("model_type"))
	if err := errors.Join(append(f.faults, err)...); err != nil {
		return nil, err
	}

	c := &Config{
		Arch:          a,
		ModelType:     a.ModelType,
		Hidden:        f.count("hidden_size", 0, maxWidth),
		Intermediate:  f.count("intermediate_size", 0, maxWidth),
		Layers:        f.count("num_hidden_layers", 0, maxLayers),
		Heads:         f.count("num_attention_heads", 0, maxHeads),
		Vocab:         f.count("vocab_size", 0, maxVocab),
		MaxPositions:  f.count("max_position_embeddings", a.Defaults.MaxPositions, maxPositions),
		NormEps:       f.positive("rms_norm_eps", cmp.Or(a.Defaults.NormEps, 1e-6)),
		TieEmbeddings: f.flag("tie_word_embeddings", false),
	}
	c.DType = parseDType(f)
	if a.hasBias(IfAttentionBias) {
		c.AttentionBias = f.flag("attention_bias", false)
	}
	if a.hasBias(IfMLPBias) {
		c.MLPBias = f.flag("mlp_bias", false)
	}
	c.heads(f)
	c.windows(f)
	c.experts(f)
	c.Rope = parseRope(f, c)
	f.fixed(a.Fixed)
	f.fixed(neutral)
	if a.Experts == nil {
		f.fixed(withoutExperts)
	}
	f.rest(isHarmless, "its effect on the model is not known; if it has none, remove it from config.json")
	if err := errors.Join(f.faults...); err != nil {
		return nil, err
	}
	return c, nil
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func (a *Arch) hasBias(rule BiasRule) bool {
	for _, l := range a.Linears {
		if l.Bias == rule {
			return true
		}
	}
	return false
}

// heads reads the head counts and the head size. A null num_key_value_heads
// means no grouping, whatever the architecture's default for an absent one.
func (c *Config) heads(f *fields) {
	kv := c.Arch.Defaults.KVHeads
	if kv == 0 || f.null("num_key_value_heads") {
		kv = max(c.Heads, 1)
	}
	c.KVHeads = f.count("num_key_value_heads", kv, maxHeads)
	dim := c.Arch.Defaults.HeadDim
	if dim == 0 {
		dim = max(c.Hidden/max(c.Heads, 1), 1)
		if !f.has("head_dim") && c.Heads > 0 && c.Hidden%c.Heads != 0 {
			f.fail("hidden_size", fmt.Sprintf("%d for %d heads", c.Hidden, c.Heads), "a multiple of num_attention_heads", "or give head_dim")
		}
	}
	c.HeadDim = f.count("head_dim", dim, maxHeadDim)
	if len(f.faults) > 0 {
		return
	}
	if c.Heads%c.KVHeads != 0 {
		f.fail("num_key_value_heads", fmt.Sprint(c.KVHeads), fmt.Sprintf("a divisor of num_attention_heads = %d", c.Heads), "")
	}
	if c.HeadDim%2 != 0 {
		f.fail("head_dim", fmt.Sprint(c.HeadDim), "an even number", "rotary embedding turns pairs of channels")
	}
	if c.Heads*c.HeadDim > maxWidth {
		f.fail("head_dim", fmt.Sprintf("%d for %d heads", c.HeadDim, c.Heads), fmt.Sprintf("a product of at most %d", maxWidth), "")
	}
}

// parseDType reads the stored type; "dtype" is the newer spelling of "torch_dtype".
func parseDType(f *fields) tensor.DType {
	old, name := f.text("torch_dtype"), f.text("dtype")
	if name == "" {
		name = old
	}
	switch strings.TrimPrefix(name, "torch.") {
	case "bfloat16":
		return tensor.BF16
	case "float16":
		return tensor.F16
	case "float32":
		return tensor.F32
	case "":
		return tensor.Unset
	}
	f.fail("dtype", fmt.Sprintf("%q", name), "bfloat16, float16 or float32", "")
	return tensor.Unset
}
