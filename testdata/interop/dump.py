#!/usr/bin/env python3
"""Load one of our exports in transformers + compressed-tensors and dump what it computes.

usage: dump.py CHECKPOINT OUT_DIR TEXT [--config CHECKPOINT/w4a16] [--tokens 64]

Demands that nothing is missing, unexpected, mismatched or newly initialised. OUT_DIR/model.safetensors
then holds, in float32 for the first TOKENS tokens of the file TEXT: ids, logits, and NAME.in / NAME.out
of every quantized linear of the first, middle and last block. The Go test TestInterop in package
kernels compares them with ours. Printed is also how near transformers comes to itself when the embeddings
carry a float32 rounding error: no other program can be expected to come nearer.
needs: torch==2.11.0 transformers==5.17.0 compressed-tensors==0.19.0
"""
import argparse
import os
import shutil
import sys

os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def perturbed(model, ids, seed):
    """The logits after relative noise of half an ulp in the embeddings."""
    e = model.get_input_embeddings()(ids)
    noise = torch.randn(e.shape, generator=torch.Generator().manual_seed(seed))
    return model(inputs_embeds=e * (1 + 2.0 ** -24 * noise), use_cache=False).logits[0].float()


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.double().flatten(), b.double().flatten(), 0).item()


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint")
    ap.add_argument("out")
    ap.add_argument("text")
    ap.add_argument("--config")
    ap.add_argument("--tokens", type=int, default=64)
    args = ap.parse_args()
    config = AutoConfig.from_pretrained(args.config or args.checkpoint)
    model, info = AutoModelForCausalLM.from_pretrained(
        args.checkpoint, config=config, dtype=torch.float32, output_loading_info=True)
    bad = {k: sorted(map(str, v)) for k, v in info.items() if v}
    if bad:
        sys.exit(f"{args.checkpoint}: transformers reports {bad}")
    model.eval()
    for name, p in model.named_parameters():
        # transformers leaves experts, which it decompresses to bf16 while it loads, and routers in bf16.
        if p.dtype == torch.bfloat16 and (".experts." in name or name.endswith(".gate.weight")):
            p.data = p.data.float()
    n = config.num_hidden_layers
    wanted = tuple(f"model.layers.{i}." for i in sorted({0, n // 2, n - 1}))
    dump = {}

    def record(name):
        def hook(_, inputs, output):
            dump[name + ".in"] = inputs[0][0].detach().float().clone().contiguous()
            dump[name + ".out"] = output[0].detach().float().clone().contiguous()
        return hook

    for name, module in model.named_modules():
        if name.startswith(wanted) and isinstance(module, torch.nn.Linear):
            module.register_forward_hook(record(name))
    text = open(args.text, encoding="utf-8").read()
    ids = torch.tensor(AutoTokenizer.from_pretrained(args.checkpoint).encode(text)[:args.tokens])[None]
    # The first forward decompresses the weights; the last is what the hooks leave in the dump.
    model(ids, use_cache=False)
    noisy = [perturbed(model, ids, seed) for seed in range(5)]
    logits = model(ids, use_cache=False).logits[0].float()
    itself = [cosine(logits, other) for other in noisy]
    os.makedirs(args.out, exist_ok=True)
    dump |= {"ids": ids[0], "logits": logits.contiguous()}
    save_file(dump, os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})
    shutil.copy(os.path.join(args.checkpoint, "config.json"), args.out)
    print(f"{args.checkpoint} as {args.config or 'config.json'}: loads clean, {len(dump) // 2 - 1} linears dumped; "
          f"logits with noise of 2^-24 in the embeddings: cosine {min(itself):.7f} to {max(itself):.7f}")


if __name__ == "__main__":
    main()
