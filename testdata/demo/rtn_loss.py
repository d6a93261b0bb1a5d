#!/usr/bin/env python3
"""Perplexity of plain RTN on a Llama checkpoint: what the quantization methods have to win back.

usage: rtn_loss.py EVAL_TEXT DIR...      needs: torch, transformers

Group-128 symmetric INT4 with E4M3 scales, FP8 activations per token, INT4 keys and values per token
and head; 40 windows of 512 tokens. An independent simulation in PyTorch, used for the demo's README.
"""
import math
import sys

import torch
import torch.nn.functional as F
import transformers.models.llama.modeling_llama as llama
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW, WINDOWS, GROUP = 512, 40, 128


def e4m3(x):
    return x.clamp(-448, 448).to(torch.float8_e4m3fn).float()


def rtn(w):
    x = w.view(w.shape[0], -1, GROUP)
    s = x.abs().amax(-1, keepdim=True) / 7
    chan = s.amax(1, keepdim=True) / 448
    s = e4m3(s / chan).clamp(min=2**-6) * chan
    return ((x / s).round().clamp(-7, 7) * s).view_as(w)


def int4_heads(x, d):
    x = x.unflatten(-1, (-1, d))
    s = (x.abs().amax(-1, keepdim=True) / 7).clamp(min=1e-9)
    return ((x / s).round().clamp(-8, 7) * s).flatten(-2)


def round_token(_, args):
    a = args[0].abs().amax(-1, keepdim=True) / 448
    return (e4m3(args[0] / a) * a,)


@torch.no_grad()
def perplexity(model, ids):
    total = 0.0
    for w in ids[:WINDOWS * WINDOW].view(-1, WINDOW).split(8):
        total += F.cross_entropy(model(w).logits[:, :-1].flatten(0, 1), w[:, 1:].flatten(), reduction="sum").item()
    return math.exp(total / (WINDOWS * (WINDOW - 1)))


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    rotate = llama.apply_rotary_pos_emb
    for path in sys.argv[2:]:
        tok = AutoTokenizer.from_pretrained(path)
        ids = torch.tensor(tok.encode(open(sys.argv[1], encoding="utf-8").read()))
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        linears = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
        print(f"{path}: bf16 {perplexity(model, ids):.3f}", end="", flush=True)
        for _, m in linears:
            m.weight.data = rtn(m.weight.data)
        print(f"  W4A16 {perplexity(model, ids):.3f}", end="", flush=True)
        for _, m in linears:
            m.register_forward_pre_hook(round_token)
        print(f"  W4A8 {perplexity(model, ids):.3f}", end="", flush=True)
        d = model.config.head_dim

        def rotate_and_round(q, k, *args, **kwargs):
            q, k = rotate(q, k, *args, **kwargs)
            return q, int4_heads(k, d)

        llama.apply_rotary_pos_emb = rotate_and_round
        for n, m in linears:
            if n.endswith("v_proj"):
                m.register_forward_hook(lambda _m, _x, y: int4_heads(y, d))
        print(f"  W4A8KV4 {perplexity(model, ids):.3f}")
        llama.apply_rotary_pos_emb = rotate


if __name__ == "__main__":
    main()
