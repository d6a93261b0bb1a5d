#!/usr/bin/env python3
"""Give the trained demo model the outliers of large models, without changing its function.

usage: outliers.py IN_DIR OUT_DIR      needs: torch, safetensors

A trained network of 3.7 M parameters has none of the outliers that make 4-bit quantization hard, so
they are put in by powers of two, which are exact in bf16 wherever nothing underflows (checked):
  keys    2 rotary pairs a KV head: k rows x16, q rows of its query heads /16
  values  2 channels a KV head: v rows x16, o columns of its query heads /16
  norms   64 of 256 channels: norm weight x8, columns of q, k, v (or gate, up) /8
  up      8 rows x16, down columns /16
"""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

KEY, VALUE, NORM, UP = 16, 16, 8, 16


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    src, out = sys.argv[1:]
    config = json.load(open(os.path.join(src, "config.json")))
    heads, kv_heads, d = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    group = heads // kv_heads
    w = load_file(os.path.join(src, "model.safetensors"))
    rng = torch.Generator().manual_seed(7)
    pick = lambda n, k: torch.randperm(n, generator=rng)[:k]

    def scale(name, index, factor, dim):
        t = w[name]
        before = t.index_select(dim, index).double()
        t.index_copy_(dim, index, (before * factor).to(t.dtype))
        if not torch.equal(t.index_select(dim, index).double(), before * factor):
            sys.exit(f"{name}: x{factor} is not exact in bf16")

    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        attn, mlp = p + "self_attn.", p + "mlp."
        for h in range(kv_heads):
            queries = range(h * group, (h + 1) * group)
            pair = pick(d // 2, 2)
            pair = torch.cat([pair, pair + d // 2])
            scale(attn + "k_proj.weight", h * d + pair, KEY, 0)
            scale(attn + "q_proj.weight", torch.cat([g * d + pair for g in queries]), 1 / KEY, 0)
            channel = pick(d, 2)
            scale(attn + "v_proj.weight", h * d + channel, VALUE, 0)
            scale(attn + "o_proj.weight", torch.cat([g * d + channel for g in queries]), 1 / VALUE, 1)
        for norm, readers in ((p + "input_layernorm.weight", [attn + s + "_proj.weight" for s in "qkv"]),
                              (p + "post_attention_layernorm.weight", [mlp + s + "_proj.weight" for s in ("gate", "up")])):
            channel = pick(config["hidden_size"], 64)
            scale(norm, channel, NORM, 0)
            for name in readers:
                scale(name, channel, 1 / NORM, 1)
        row = pick(config["intermediate_size"], 8)
        scale(mlp + "up_proj.weight", row, UP, 0)
        scale(mlp + "down_proj.weight", row, 1 / UP, 1)

    os.makedirs(out, exist_ok=True)
    save_file(w, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(src, name), os.path.join(out, name))


if __name__ == "__main__":
    main()
