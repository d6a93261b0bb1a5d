#!/usr/bin/env python3
"""Make tiny random models, as transformers saves them, with a tokenizer: something to export.

usage: tiny.py OUT_DIR TOKENIZER_DIR [small|hopper]

OUT_DIR/qwen3, OUT_DIR/mixtral and OUT_DIR/qwen3-moe are Hugging Face directories. hopper: of sizes that vLLM's
kernels take, with OUT_DIR/qwen2 in the place of qwen3.
needs: torch==2.11.0 transformers==5.17.0
"""
import os
import shutil
import sys

os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from transformers import (MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM)

COMMON = dict(vocab_size=2048, head_dim=64, max_position_embeddings=512, num_hidden_layers=2)
SMALL = COMMON | dict(hidden_size=256, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
# vLLM's Hopper kernels want multiples of 128, and of 256 where experts are.
HOPPER = COMMON | dict(vocab_size=512, hidden_size=512, num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=False)


def mixtures(sizes, experts, layers):
    """A Mixtral of so many layers, and a Qwen3-MoE with a dense layer below."""
    return {
        "mixtral": MixtralForCausalLM(MixtralConfig(
            **sizes | dict(num_hidden_layers=layers), intermediate_size=256, num_local_experts=4, num_experts_per_tok=2)),
        "qwen3-moe": Qwen3MoeForCausalLM(Qwen3MoeConfig(
            **sizes, intermediate_size=512, moe_intermediate_size=256, num_experts=experts, num_experts_per_tok=2,
            norm_topk_prob=True, mlp_only_layers=[0])),
    }


def small():
    return mixtures(SMALL, 8, 2) | {"qwen3": Qwen3ForCausalLM(Qwen3Config(**SMALL, intermediate_size=512))}


def hopper():
    sizes = {k: v for k, v in HOPPER.items() if k != "head_dim"}  # a Qwen2 has hidden_size / heads, and biases
    return mixtures(HOPPER, 4, 1) | {"qwen2": Qwen2ForCausalLM(Qwen2Config(**sizes, intermediate_size=512))}


def main(out, tokenizer, sizes="small"):
    models = {"small": small, "hopper": hopper}[sizes]()
    for seed, (name, model) in enumerate(models.items()):
        g = torch.Generator().manual_seed(seed)
        for key, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            if key.endswith("norm.weight"):
                r = 1 + 0.3 * r
            elif "embed_tokens" not in key:
                r = r * 1.5 / p.shape[-1] ** 0.5
            p.data.copy_(r)
        folder = os.path.join(out, name)
        model.to(torch.bfloat16).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(tokenizer, file), folder)
        print(f"{folder}: {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
