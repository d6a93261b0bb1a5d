#!/usr/bin/env python3
"""Train the model that `quantize demo` embeds, as a bf16 Hugging Face directory.

usage: train.py TEXT_DIR OUT_DIR [--epochs 60]      needs: torch (one GPU), tokenizers, safetensors

TEXT_DIR has train/*.txt and eval/doyle-sherlock-holmes.txt. A byte-level BPE of 2048 tokens and a
Llama of 3.7 M parameters are trained; the epoch with the lowest perplexity on the held-out book is
kept. Seeds are fixed; the GPU's own reductions are not bit-reproducible, so the result is committed.
"""
import argparse
import glob
import json
import math
import os
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE = 256, 4, 4, 2, 64, 768
VOCAB, CONTEXT, EPS, THETA = 2048, 512, 1e-5, 10000.0


def train_tokenizer(files, out):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train(files, trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tok.save(os.path.join(out, "tokenizer.json"))
    with open(os.path.join(out, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>",
                   "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False}, f, indent=2)
        f.write("\n")
    return tok


def read_ids(tok, files):
    return torch.cat([torch.tensor(tok.encode(open(p, encoding="utf-8").read()).ids) for p in files])


class Block(torch.nn.Module):
    def __init__(self, dropout):
        super().__init__()
        linear = lambda n, k: torch.nn.Linear(k, n, bias=False)
        self.input_layernorm = torch.nn.RMSNorm(HIDDEN, EPS)
        self.q_proj, self.o_proj = linear(HEADS * HEAD_DIM, HIDDEN), linear(HIDDEN, HEADS * HEAD_DIM)
        self.k_proj, self.v_proj = linear(KV_HEADS * HEAD_DIM, HIDDEN), linear(KV_HEADS * HEAD_DIM, HIDDEN)
        self.post_attention_layernorm = torch.nn.RMSNorm(HIDDEN, EPS)
        self.gate_proj, self.up_proj = linear(INTERMEDIATE, HIDDEN), linear(INTERMEDIATE, HIDDEN)
        self.down_proj = linear(HIDDEN, INTERMEDIATE)
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        h = self.input_layernorm(x)
        split = lambda y, n: y.view(b, t, n, HEAD_DIM).transpose(1, 2)
        rotate = lambda y: torch.cat((-y[..., HEAD_DIM // 2:], y[..., :HEAD_DIM // 2]), -1)
        q, k, v = split(self.q_proj(h), HEADS), split(self.k_proj(h), KV_HEADS), split(self.v_proj(h), KV_HEADS)
        q, k = (q * cos + rotate(q) * sin).to(v.dtype), (k * cos + rotate(k) * sin).to(v.dtype)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.drop(self.o_proj(a.transpose(1, 2).reshape(b, t, -1)))
        h = self.post_attention_layernorm(x)
        return x + self.drop(self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h)))


class Llama(torch.nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(VOCAB, HIDDEN)
        self.layers = torch.nn.ModuleList(Block(dropout) for _ in range(LAYERS))
        self.norm = torch.nn.RMSNorm(HIDDEN, EPS)
        self.drop = torch.nn.Dropout(dropout)
        inv = THETA ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)
        angle = torch.outer(torch.arange(CONTEXT).float(), inv).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 / (math.sqrt(2 * LAYERS) if "o_proj" in name or "down_proj" in name else 1)
                torch.nn.init.normal_(p, std=std)

    def forward(self, ids):
        x = self.drop(self.embed_tokens(ids))
        for layer in self.layers:
            x = layer(x, self.cos[:ids.shape[1]], self.sin[:ids.shape[1]])
        return F.linear(self.norm(x), self.embed_tokens.weight)


@torch.no_grad()
def perplexity(model, ids):
    model.eval()
    windows = ids[:len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    total = 0.0
    for w in windows.split(64):
        logits = model(w)[:, :-1].float()
        total += F.cross_entropy(logits.flatten(0, 1), w[:, 1:].flatten(), reduction="sum").item()
    model.train()
    return math.exp(total / (windows.shape[0] * (CONTEXT - 1)))


def state(model):
    out = {}
    for name, p in model.state_dict().items():
        head, _, tail = name.partition("layers.")
        if tail:
            i, part = tail.split(".", 1)
            group = ("self_attn." if part[0] in "qkvo" and part[1] == "_" else
                     "mlp." if part.split("_")[0] in ("gate", "up", "down") else "")
            name = f"layers.{i}.{group}{part}"
        out["model." + name] = p.detach().to(torch.bfloat16).cpu().contiguous()
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("text")
    ap.add_argument("out")
    ap.add_argument("--epochs", type=int, default=60)
    ap.add_argument("--dropout", type=float, default=0.2)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--batch", type=int, default=64)
    args = ap.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.manual_seed(1)
    files = sorted(glob.glob(os.path.join(args.text, "train", "*.txt")))
    tok = train_tokenizer(files, args.out)
    train = read_ids(tok, files).cuda()
    held_out = read_ids(tok, [os.path.join(args.text, "eval", "doyle-sherlock-holmes.txt")]).cuda()
    model = Llama(args.dropout).cuda()
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(train)} training tokens", flush=True)

    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
                            lr=args.lr, betas=(0.9, 0.95), fused=True)
    steps_per_epoch = len(train) // (CONTEXT * args.batch)
    total, warm, step = steps_per_epoch * args.epochs, 200, 0
    run = torch.compile(model)
    best, best_state, start = float("inf"), None, time.time()
    gen = torch.Generator(device="cuda").manual_seed(1)
    ema = {n: p.detach().clone() for n, p in model.named_parameters()}
    for epoch in range(args.epochs):
        for _ in range(steps_per_epoch):
            at = torch.randint(0, len(train) - CONTEXT - 1, (args.batch, 1), device="cuda", generator=gen)
            batch = train[at + torch.arange(CONTEXT + 1, device="cuda")]
            rate = args.lr * min(1, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / total)))
            for group in opt.param_groups:
                group["lr"] = rate
            with torch.autocast("cuda", torch.bfloat16):
                logits = run(batch[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            opt.zero_grad(set_to_none=True)
            torch._foreach_lerp_(list(ema.values()), [p.detach() for p in model.parameters()], 0.002)
            step += 1
        now = {n: p.detach().clone() for n, p in model.named_parameters()}
        model.load_state_dict(ema, strict=True)
        ppl = perplexity(model, held_out)
        if ppl < best:
            best, best_state = ppl, state(model)
        model.load_state_dict(now, strict=True)
        print(f"epoch {epoch + 1}: loss {loss.item():.4f} perplexity {ppl:.3f} best {best:.3f} "
              f"{time.time() - start:.0f} s", flush=True)
    save_file(best_state, os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})
    config = {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
              "bos_token_id": None, "eos_token_id": 0, "head_dim": HEAD_DIM, "hidden_act": "silu",
              "hidden_size": HIDDEN, "initializer_range": 0.02, "intermediate_size": INTERMEDIATE,
              "max_position_embeddings": CONTEXT, "mlp_bias": False, "model_type": "llama",
              "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "num_key_value_heads": KV_HEADS,
              "pretraining_tp": 1, "rms_norm_eps": EPS, "rope_scaling": None, "rope_theta": THETA,
              "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": VOCAB}
    with open(os.path.join(args.out, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
