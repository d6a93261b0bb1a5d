package model

// qwen3MoE is Qwen3-MoE: Qwen3 with experts in the layers that decoder_sparse_step
// and mlp_only_layers leave them, and dense MLPs of intermediate_size in the others.
// No expert is shared. A sliding window is refused: versions of transformers
// disagree about the layers it holds in, and no published model has one.
var qwen3MoE = Arch{
	Name:      "Qwen3MoeForCausalLM",
	ModelType: "qwen3_moe",

	Embedding: "model.embed_tokens",
	FinalNorm: "model.norm",
	Head:      "lm_head",
	Layers:    "model.layers.",

	AttnNorm: "input_layernorm",
	MLPNorm:  "post_attention_layernorm",
	QNorm:    "self_attn.q_norm",
	KNorm:    "self_attn.k_norm",
	Linears: []LinearRule{
		{Role: RoleQ, Name: "self_attn.q_proj", Bias: IfAttentionBias},
		{Role: RoleK, Name: "self_attn.k_proj", Bias: IfAttentionBias},
		{Role: RoleV, Name: "self_attn.v_proj", Bias: IfAttentionBias},
		{Role: RoleO, Name: "self_attn.o_proj", Bias: IfAttentionBias},
		{Role: RoleGate, Name: "mlp.gate_proj", Bias: NoBias},
		{Role: RoleUp, Name: "mlp.up_proj", Bias: NoBias},
		{Role: RoleDown, Name: "mlp.down_proj", Bias: NoBias},
	},
	Feeds: []Feed{
		{Site: AttnIn, From: "input_layernorm", To: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
		{Site: OIn, From: "self_attn.v_proj", To: []string{"self_attn.o_proj"}, Heads: true},
		{Site: MLPIn, From: "post_attention_layernorm", To: []string{"mlp.gate_proj", "mlp.up_proj"}},
		{Site: DownIn, From: "mlp.up_proj", To: []string{"mlp.down_proj"}},
	},
	Experts: &ExpertRule{
		Router: "mlp.gate",
		Prefix: "mlp.experts.",
		Linears: []LinearRule{
			{Role: RoleExpertGate, Name: "gate_proj", Bias: NoBias},
			{Role: RoleExpertUp, Name: "up_proj", Bias: NoBias},
			{Role: RoleExpertDown, Name: "down_proj", Bias: NoBias},
		},
		Count: []string{"num_experts", "num_local_experts"}, Default: 128, Chosen: 8, Width: "moe_intermediate_size",
		Norm: "norm_topk_prob", Layers: true,
	},
	Pairing: HalfSplit,
	Window:  WindowByLayers,

	Defaults: Defaults{KVHeads: 4, MaxPositions: 32768, SlidingWindow: 4096, MaxWindowLayers: 28},
	Fixed: map[string]any{
		"qkv_bias": false, "mlp_bias": false, "use_qk_norm": true, "use_mrope": false, "use_sliding_window": false,
		"shared_expert_intermediate_size": 0.0, "n_shared_experts": 0.0, "num_shared_experts": 0.0,
	},
}
