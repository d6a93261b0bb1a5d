package main

import (
	"fmt"
	"testing"

	"quantize/kernels/cpu"
	"quantize/model"
)

// The block that is measured is small for every model, and runs.
func TestMeasureForward(t *testing.T) {
	t.Parallel()
	const common = `"rms_norm_eps": 1e-6, "hidden_act": "silu", "vocab_size": 1000, "max_position_embeddings": 4096, "num_hidden_layers": 3, "torch_dtype": "bfloat16"`
	for name, text := range map[string]string{
		"small":   `"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3`,
		"bias":    `"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2`,
		"wide":    `"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128, "num_key_value_heads": 8`,
		"mixtral": `"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2`,
		"experts": `"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": []`,
	} {
		cfg, err := model.ParseConfig(fmt.Appendf(nil, "{%s, %s}", text, common))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		narrow, weights := narrowed(cfg), 0
		for _, e := range model.Tensors(narrow) {
			if e.Kind == model.KindLinear {
				weights += e.Shape[0] * e.Shape[1]
			}
		}
		if weights > 1<<25 {
			t.Errorf("%s: a block of %d weights", name, weights)
		}
		if rate, err := measureForward(cpu.New(), cfg, 4, bf16Bits); err != nil || !(rate > 0) {
			t.Errorf("%s: %v GFLOP/s, %v", name, rate, err)
		}
	}
}
