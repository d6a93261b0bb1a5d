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
		{Role: RoleQ, Name: "self_attn.q_proj", Bias: AlwaysBias},
		{Role: RoleK, Name: "self_attn.k_proj", Bias: AlwaysBias},
		{Role: RoleV, Name: "self_attn.v_proj", Bias: AlwaysBias},
		{Role: RoleO, Name: "self_attn.o_proj", Bias: NoBias},
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

	Defaults: Defaults{KVHeads: 32, MaxPositions: 32768, SlidingWindow: 4096, MaxWindowLayers: 28},
	Fixed:    map[string]any{"attention_bias": true, "qkv_bias": true, "mlp_bias": false, "use_qk_norm": false, "use_mrope": false},
}
