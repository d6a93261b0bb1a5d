package model

// qwen2 is Qwen2 and Qwen2.5: biases on q, k and v and nowhere else; a sliding
// window, if it is used at all, in the upper layers.
var qwen2 = Arch{
	Name:      "Qwen2ForCausalLM",
	ModelType: "qwen2",

	Embedding: "model.embed_tokens",
	FinalNorm: "model.norm",
	Head:      "lm_head",
	Layers:    "model.layers.",

	AttnNorm: "input_layernorm",
	MLPNorm:  "post_attention_layernorm",
	Linears: []LinearRule{
		{RoleQ, "self_attn.q_proj", AlwaysBias},
		{RoleK, "self_attn.k_proj", AlwaysBias},
		{RoleV, "self_attn.v_proj", AlwaysBias},
		{RoleO, "self_attn.o_proj", NoBias},
		{RoleGate, "mlp.gate_proj", NoBias},
		{RoleUp, "mlp.up_proj", NoBias},
		{RoleDown, "mlp.down_proj", NoBias},
	},
	Feeds: []Feed{
		{Site: AttnIn, From: "input_layernorm", To: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
		{Site: OIn, From: "self_attn.v_proj", To: []string{"self_attn.o_proj"}, Heads: true},
		{Site: MLPIn, From: "post_attention_layernorm", To: []string{"mlp.gate_proj", "mlp.up_proj"}},
		{Site: DownIn, From: "mlp.up_proj", To: []string{"mlp.down_proj"}},
	},
	Pairing: HalfSplit,
	Window:  WindowByLayers,

	Defaults: Defaults{KVHeads: 32, MaxPositions: 32768, SlidingWindow: 4096, MaxWindowLayers: 28},
	Fixed:    map[string]any{"attention_bias": true, "qkv_bias": true, "mlp_bias": false, "use_qk_norm": false, "use_mrope": false},
}
