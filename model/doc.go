// Package model knows decoder-only language models: what their config.json
// means, which tensors they have, and how they compute.
//
// In comes a Hugging Face config.json and a [Source] of weights by module name;
// out go hidden states, logits and, through an [Observer], every activation
// that calibration wants to see. The arithmetic itself (matrix products,
// attention) is a [Compute], which package kernels implements.
//
// One decoder block, with the [Point] that an observer sees at each arrow:
//
//	x ── RMSNorm ──attn_in──▶ q,k,v ─(QK-norm)─q_pre,k_pre─▶ RoPE ─q_post,k_post─▶ ┐
//	│                           └────────────v────────────────────────────────────▶ Attend
//	x += o_proj ◀──o_in─────────────────────────────────────────────────────────────┘
//	x ── RMSNorm ──mlp_in──▶ gate, up ── SiLU(gate)*up ──down_in──▶ down_proj
//	x += down_proj
//
// A layer with experts (Mixtral, Qwen3-MoE) has them in the place of the MLP; each
// has an expert_in and a down_in of its own, of the tokens that reached it:
//
//	x ── RMSNorm ──mlp_in──▶ router ── softmax, k largest ──▶ share of each expert
//	                  └──expert_in──▶ gate, up ── SiLU(gate)*up ──down_in──▶ down_proj
//	x += Σ share * down_proj
//
// [Model.Stream] runs all windows through one block before it turns to the
// next, which loads meanwhile, so that the weights of two blocks are in memory
// at any time:
//
//	hidden[w] = embedding rows of window w
//	for each block: for each window: hidden[w] = block(hidden[w]); drop
//	hidden[w] = RMSNorm(hidden[w])
//
// Architectures are tables (llama.go, mistral.go, qwen2.go, qwen3.go, mixtral.go,
// qwen3moe.go): tensor
// names, biases, norms, what feeds what, as data. A config field that is not
// known to leave the mathematics alone is an error, never ignored.
//
// Papers: Llama (Touvron et al. 2023, arXiv 2302.13971), RoPE (Su et al. 2021,
// arXiv 2104.09864), GQA (Ainslie et al. 2023, arXiv 2305.13245), YaRN (Peng et
// al. 2023, arXiv 2309.00071), Mistral 7B (Jiang et al. 2023, arXiv 2310.06825).
package model
