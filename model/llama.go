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
		{RoleQ, "self_attn.q_proj", IfAttentionBias},
		{RoleK, "self_attn.k_proj", IfAttentionBias},
		{RoleV, "self_attn.v_proj", IfAttentionBias},
		{RoleO, "self_attn.o_proj", IfAttentionBias},
		{RoleGate, "mlp.gate_proj", IfMLPBias},
		{RoleUp, "mlp.up_proj", IfMLPBias},
		{RoleDown, "mlp.down_proj", IfMLPBias},
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
