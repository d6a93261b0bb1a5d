package model

// qwen3 is the dense Qwen3: RMSNorm on every query and key head before RoPE,
// one weight for all heads of a layer; head_dim independent of hidden_size.
var qwen3 = Arch{
	Name:      "Qwen3ForCausalLM",
	ModelType: "qwen3",

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
	Pairing: HalfSplit,
	Window:  WindowByLayers,

	Defaults: Defaults{KVHeads: 32, HeadDim: 128, MaxPositions: 32768, SlidingWindow: 4096, MaxWindowLayers: 28},
	Fixed:    map[string]any{"mlp_bias": false, "use_qk_norm": true, "use_mrope": false},
}
