"""Makes the tiny checkpoints of this folder and their logits by transformers.

    python make_goldens.py OUT_DIR

Each case is a folder with config.json (spelled as given below, not as
transformers would write it), model.safetensors (BF16, seeded random) and
golden.safetensors: tokens (I32), logits (F32, eager attention, float32).
rope.json holds the inverse frequencies and the cos/sin factor of transformers
for head sizes and bases of real models.
"""
import json, pathlib, sys

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

TOKENS = 48


def base(arch, model_type, **kw):
    c = dict(architectures=[arch], model_type=model_type, hidden_act="silu",
             hidden_size=48, intermediate_size=80, num_hidden_layers=2,
             num_attention_heads=3, num_key_value_heads=1, vocab_size=96,
             max_position_embeddings=128, rms_norm_eps=1e-5,
             initializer_range=0.02, bos_token_id=1, eos_token_id=2)
    c.update(kw)
    return c


def llama(**kw):
    return base("LlamaForCausalLM", "llama", **kw)


CASES = {
    "llama-tied": llama(rope_theta=10000.0, rope_scaling=None, torch_dtype="bfloat16",
                        tie_word_embeddings=True, attention_bias=False, mlp_bias=False),
    "llama-llama3": llama(rope_theta=500000.0, torch_dtype="bfloat16", tie_word_embeddings=False,
                          rope_scaling=dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                            original_max_position_embeddings=32, rope_type="llama3")),
    "llama-linear": llama(rope_theta=10000, rope_scaling=dict(type="linear", factor=2.5), torch_dtype="bfloat16"),
    "llama-yarn": llama(dtype="bfloat16",
                        rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                                             original_max_position_embeddings=32)),
    "llama-yarn-mscale": llama(dtype="bfloat16",
                               rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                                                    original_max_position_embeddings=32, beta_fast=8, beta_slow=2,
                                                    mscale=1.5, mscale_all_dim=0.5, truncate=False)),
    "llama-biases": llama(rope_theta=10000.0, torch_dtype="bfloat16", attention_bias=True, mlp_bias=True,
                          hidden_size=32, num_attention_heads=2, num_key_value_heads=2),
    "llama-head-dim": llama(rope_theta=10000.0, torch_dtype="bfloat16", head_dim=24, hidden_size=32,
                            num_attention_heads=4, num_key_value_heads=2),
    "mistral-window": base("MistralForCausalLM", "mistral", rope_theta=10000.0, torch_dtype="bfloat16",
                           sliding_window=7, tie_word_embeddings=False, hidden_size=64,
                           num_attention_heads=8, num_key_value_heads=2),
    "mistral-no-window": base("MistralForCausalLM", "mistral", rope_theta=1000000.0, torch_dtype="bfloat16",
                              sliding_window=None, head_dim=8, num_attention_heads=4, num_key_value_heads=4),
    "qwen2-biases": base("Qwen2ForCausalLM", "qwen2", rope_theta=1000000.0, torch_dtype="bfloat16",
                         use_sliding_window=False, sliding_window=32768, max_window_layers=1,
                         tie_word_embeddings=True, hidden_size=64, num_attention_heads=8, num_key_value_heads=1),
    "qwen2-window": base("Qwen2ForCausalLM", "qwen2", torch_dtype="bfloat16", rope_theta=10000.0,
                         use_sliding_window=True, sliding_window=9, max_window_layers=1, num_hidden_layers=3),
    "qwen3-norms": base("Qwen3ForCausalLM", "qwen3", rope_theta=1000000.0, torch_dtype="bfloat16", rope_scaling=None,
                        head_dim=16, hidden_size=32, num_attention_heads=4, num_key_value_heads=2,
                        attention_bias=False, use_sliding_window=False, sliding_window=None, max_window_layers=2),
    "qwen3-layer-types": base("Qwen3ForCausalLM", "qwen3", dtype="bfloat16", attention_bias=True,
                              rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
                              use_sliding_window=True, sliding_window=5, head_dim=16, tie_word_embeddings=True,
                              num_attention_heads=4, num_key_value_heads=4,
                              layer_types=["sliding_attention", "full_attention"]),
    "mixtral": base("MixtralForCausalLM", "mixtral", rope_theta=1000000.0, torch_dtype="bfloat16", sliding_window=None,
                    num_local_experts=5, num_experts_per_tok=2, router_aux_loss_coef=0.02, output_router_logits=False,
                    tie_word_embeddings=False, num_attention_heads=4, num_key_value_heads=2),
    "qwen3-moe": base("Qwen3MoeForCausalLM", "qwen3_moe", rope_theta=1000000.0, torch_dtype="bfloat16", rope_scaling=None,
                      num_hidden_layers=3, head_dim=16, num_attention_heads=4, num_key_value_heads=2, attention_bias=False,
                      num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=True,
                      decoder_sparse_step=1, mlp_only_layers=[1], use_sliding_window=False, sliding_window=None,
                      max_window_layers=3, tie_word_embeddings=False),
    "qwen3-moe-step": base("Qwen3MoeForCausalLM", "qwen3_moe", rope_theta=10000.0, dtype="bfloat16", head_dim=16,
                           num_attention_heads=4, num_key_value_heads=1, num_experts=4, num_experts_per_tok=2,
                           moe_intermediate_size=40, norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[],
                           tie_word_embeddings=True),
}

ROPES = [
    (64, dict(rope_type="default", rope_theta=100000.0)),
    (128, dict(rope_type="default", rope_theta=1000000.0)),
    (80, dict(rope_type="default", rope_theta=10000.0)),
    (128, dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    (128, dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=8192)),
    (64, dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)),
    (128, dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=32768)),
    (128, dict(rope_type="yarn", rope_theta=10000.0, factor=16.0, original_max_position_embeddings=4096,
               attention_factor=1.25)),
    (64, dict(rope_type="yarn", rope_theta=10000.0, factor=40.0, original_max_position_embeddings=4096,
              mscale=1.0, mscale_all_dim=1.0, beta_fast=32, beta_slow=1)),
    (64, dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, original_max_position_embeddings=4096,
              truncate=False)),
]


def per_expert(parameters, model_type):
    """Parameters as published checkpoints have them: experts are 2-D tensors of their own there, and are fused into
    3-D ones when transformers 5 loads them."""
    names = {"mixtral": ("w1", "w3", "w2")}.get(model_type, ("gate_proj", "up_proj", "down_proj"))
    for key, p in parameters:
        if model_type == "mixtral":
            key = key.replace(".mlp.", ".block_sparse_moe.")
        if not key.endswith(("experts.gate_up_proj", "experts.down_proj")):
            yield key, p
            continue
        prefix, part = key.rsplit(".", 1)
        for e, w in enumerate(p):
            pieces = w.chunk(2) if part == "gate_up_proj" else [w]
            for name, piece in zip(names[:2] if part == "gate_up_proj" else names[2:], pieces):
                yield f"{prefix}.{e}.{name}.weight", piece


def checkpoint(out, name, config, seed):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    g = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    tensors = {}
    for key, p in per_expert(model.named_parameters(), config["model_type"]):  # a tied head appears once
        r = torch.randn(p.shape, generator=g)
        if key.endswith("norm.weight"):
            r = 1 + 0.3 * r
        elif key.endswith("bias"):
            r = 0.5 * r
        elif "embed_tokens" not in key:
            r = r * 1.5 / p.shape[1] ** 0.5
        tensors[key] = r.to(torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                       output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    ids = torch.randint(0, config["vocab_size"], (1, TOKENS), generator=g)
    with torch.no_grad():
        logits = model(ids).logits[0]
    print(f"{name}: logits {logits.min():.3f} .. {logits.max():.3f}")
    save_file({"tokens": ids[0].to(torch.int32), "logits": logits.contiguous()}, folder / "golden.safetensors")


def rope(head_dim, params):
    c = AutoConfig.for_model("llama", hidden_size=head_dim * 2, num_attention_heads=2, head_dim=head_dim,
                             max_position_embeddings=131072, rope_parameters=dict(params))
    if params["rope_type"] == "default":
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
        inv, factor = LlamaRotaryEmbedding.compute_default_rope_parameters(c)
    else:
        inv, factor = ROPE_INIT_FUNCTIONS[params["rope_type"]](c, None)
    return dict(head_dim=head_dim, rope_parameters=params, attention_factor=factor, inv_freq=inv.tolist())


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    for i, (name, config) in enumerate(CASES.items()):
        checkpoint(out, name, config, seed=100 + i)
    rows = [json.dumps(rope(d, p)) for d, p in ROPES]
    (out / "rope.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
