package model

// mistral is Mistral 7B and its relatives: Llama without biases, with a
// sliding window in every layer unless sliding_window is null.
var mistral = Arch{
	Name:      "MistralForCausalLM",
	ModelType: "mistral",

	Embedding: "model.embed_tokens",
	FinalNorm: "model.norm",
	Head:      "lm_head",
	Layers:    "model.layers.",

	AttnNorm: "input_layernorm",
	MLPNorm:  "post_attention_layernorm",
	Linears: []LinearRule{
		{Role: RoleQ, Name: "self_attn.q_proj", Bias: NoBias},
		{Role: RoleK, Name: "self_attn.k_proj", Bias: NoBias},
		{Role: RoleV, Name: "self_attn.v_proj", Bias: NoBias},
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
	Window:  WindowAll,

	Defaults: Defaults{KVHeads: 8, MaxPositions: 4096 * 32, SlidingWindow: 4096},
	Fixed:    map[string]any{"attention_bias": false, "mlp_bias": false, "use_qk_norm": false},
}
