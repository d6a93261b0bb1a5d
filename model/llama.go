package model

// llama is Llama 1 to 3 and what shares its class: SmolLM2, TinyLlama, Yi, ...
var llama = Arch{
	Name:      "LlamaForCausalLM",
	ModelType: "llama",

	Embedding: "model.embed_tokens",
	FinalNorm: "model.norm",
	Head:      "lm_head",
	Layers:    "model.layers.",

	AttnNorm: "input_layernorm",
	MLPNorm:  "post_attention_layernorm",
	Linears: []LinearRule{
		{Role: RoleQ, Name: "self_attn.q_proj", Bias: IfAttentionBias},
		{Role: RoleK, Name: "self_attn.k_proj", Bias: IfAttentionBias},
		{Role: RoleV, Name: "self_attn.v_proj", Bias: IfAttentionBias},
		{Role: RoleO, Name: "self_attn.o_proj", Bias: IfAttentionBias},
		{Role: RoleGate, Name: "mlp.gate_proj", Bias: IfMLPBias},
		{Role: RoleUp, Name: "mlp.up_proj", Bias: IfMLPBias},
		{Role: RoleDown, Name: "mlp.down_proj", Bias: IfMLPBias},
	},
	Feeds: []Feed{
		{Site: AttnIn, From: "input_layernorm", To: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
		{Site: OIn, From: "self_attn.v_proj", To: []string{"self_attn.o_proj"}, Heads: true},
		{Site: MLPIn, From: "post_attention_layernorm", To: []string{"mlp.gate_proj", "mlp.up_proj"}},
		{Site: DownIn, From: "mlp.up_proj", To: []string{"mlp.down_proj"}},
	},
	Pairing: HalfSplit,
	Window:  NoWindow,

	Defaults: Defaults{MaxPositions: 2048},
	Fixed:    map[string]any{"sliding_window": nil, "use_sliding_window": false, "use_qk_norm": false},
}
