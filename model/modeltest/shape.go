package modeltest

import (
	"encoding/json"
	"maps"
)

// Shape describes a checkpoint to make.
type Shape struct {
	Name   string // for test names
	Family string // model_type: llama, mistral, qwen2, qwen3, mixtral, qwen3_moe

	Hidden, Intermediate, Layers, Heads, KVHeads, HeadDim, Vocab int

	Tied   bool
	Config map[string]any // more fields of config.json: biases, rope, windows
}

var architectures = map[string]string{
	"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
	"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
	"mixtral": "MixtralForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM",
}

// Shapes returns every architecture with its hard cases: grouped queries
// 1, 3, 4 and 8, biases, QK-norm, heads wider than hidden/heads, sliding
// windows, each rope type, tied and untied, experts in all layers and in one.
func Shapes() []Shape {
	base := Shape{Family: "llama", Hidden: 32, Intermediate: 48, Layers: 2, Heads: 4, KVHeads: 1, HeadDim: 8, Vocab: 64}
	shape := func(name string, edit func(*Shape)) Shape {
		s := base
		s.Name = name
		edit(&s)
		return s
	}
	return []Shape{
		shape("llama tied, 4 queries a key", func(s *Shape) { s.Tied = true }),
		shape("llama biases everywhere, no grouping", func(s *Shape) {
			s.KVHeads = 4
			s.Config = map[string]any{"attention_bias": true, "mlp_bias": true}
		}),
		shape("llama 3 queries a key, llama3 rope", func(s *Shape) {
			s.Heads, s.Hidden = 3, 24
			s.Config = map[string]any{"rope_theta": 500000.0, "rope_scaling": map[string]any{
				"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
				"original_max_position_embeddings": 16,
			}}
		}),
		shape("llama yarn", func(s *Shape) {
			s.Config = map[string]any{"rope_parameters": map[string]any{
				"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16,
			}}
		}),
		shape("llama linear rope, wide heads", func(s *Shape) {
			s.HeadDim = 16
			s.Config = map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 2.0}}
		}),
		shape("mistral window, 8 queries a key", func(s *Shape) {
			s.Family, s.Heads, s.HeadDim = "mistral", 8, 4
			s.Config = map[string]any{"sliding_window": 5}
		}),
		shape("qwen2 biases, tied", func(s *Shape) { s.Family, s.KVHeads, s.Tied = "qwen2", 2, true }),
		shape("qwen2 window in the upper layer", func(s *Shape) {
			s.Family = "qwen2"
			s.Config = map[string]any{"use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1}
		}),
		shape("qwen3 norms", func(s *Shape) { s.Family, s.HeadDim, s.KVHeads = "qwen3", 16, 2 }),
		shape("qwen3 norms and biases, tied", func(s *Shape) {
			s.Family, s.Tied = "qwen3", true
			s.Config = map[string]any{"attention_bias": true}
		}),
		shape("mixtral", func(s *Shape) {
			s.Family, s.KVHeads = "mixtral", 2
			s.Config = map[string]any{"num_local_experts": 4, "num_experts_per_tok": 2}
		}),
		shape("qwen3_moe experts above a dense layer, shares as they come", func(s *Shape) {
			s.Family, s.KVHeads, s.HeadDim = "qwen3_moe", 2, 16
			s.Config = map[string]any{"num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "decoder_sparse_step": 2}
		}),
		shape("qwen3_moe experts below a dense layer, shares of 1, tied", func(s *Shape) {
			s.Family, s.Tied = "qwen3_moe", true
			s.Config = map[string]any{"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "mlp_only_layers": []int{1}, "norm_topk_prob": true}
		}),
	}
}

// JSON returns the config.json of the shape.
func (s Shape) JSON() []byte {
	c := map[string]any{
		"architectures": []string{architectures[s.Family]}, "model_type": s.Family, "hidden_act": "silu",
		"hidden_size": s.Hidden, "intermediate_size": s.Intermediate, "num_hidden_layers": s.Layers,
		"num_attention_heads": s.Heads, "num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim,
		"vocab_size": s.Vocab, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
		"tie_word_embeddings": s.Tied, "torch_dtype": "bfloat16",
	}
	if s.Family == "mistral" || s.Family == "mixtral" {
		c["sliding_window"] = nil
	}
	maps.Copy(c, s.Config)
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		panic("modeltest: shape's config is not JSON")
	}
	return append(b, '\n')
}
