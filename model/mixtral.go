package model

// mixtral is Mixtral 8x7B and 8x22B: Mistral with experts in every layer, whose
// shares always sum to 1. w1 is gate, w3 is up, w2 is down.
var mixtral = Arch{
	Name:      "MixtralForCausalLM",
	ModelType: "mixtral",

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
	},
	Feeds: []Feed{
		{Site: AttnIn, From: "input_layernorm", To: []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
		{Site: OIn, From: "self_attn.v_proj", To: []string{"self_attn.o_proj"}, Heads: true},
	},
	Experts: &ExpertRule{
		Router: "block_sparse_moe.gate",
		Prefix: "block_sparse_moe.experts.",
		Linears: []LinearRule{
			{Role: RoleExpertGate, Name: "w1", Bias: NoBias},
			{Role: RoleExpertUp, Name: "w3", Bias: NoBias},
			{Role: RoleExpertDown, Name: "w2", Bias: NoBias},
		},
		Count: []string{"num_local_experts", "num_experts"}, Default: 8, Chosen: 2, Width: "intermediate_size",
	},
	Pairing: HalfSplit,
	Window:  WindowAll,

	Defaults: Defaults{KVHeads: 8, MaxPositions: 4096 * 32, NormEps: 1e-5, RopeTheta: 1e6},
	Fixed: map[string]any{
		"attention_bias": false, "mlp_bias": false, "use_qk_norm": false,
		"shared_expert_intermediate_size": 0.0, "n_shared_experts": 0.0, "num_shared_experts": 0.0,
	},
}
