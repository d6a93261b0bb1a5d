#!/usr/bin/env python3
"""Load one of our exports in transformers and dump what it computes.

usage: dump.py CHECKPOINT OUT_DIR TEXT [--config CHECKPOINT/w4a16] [--tokens 64] [--windows 5] [--window 512]

Demands that nothing is missing, unexpected, mismatched or newly initialised. OUT_DIR then holds
  model.safetensors    in float32 for the first TOKENS tokens of the file TEXT: ids, logits, and NAME.in / NAME.out
                       of every quantized linear of the first, middle and last block; the Go test TestInterop in
                       package kernels compares them with ours. Where the run is far from itself (below), also
                       logits.1, .2, ... of runs with that error: such a network has several outcomes that one
                       rounding decides between, and ours must be near one of them
  transformers.json    versions, what loading reported, perplexity of the first windows of TEXT by the protocol of
                       `quantize eval`, and how near transformers comes to itself when the embeddings carry a float32
                       rounding error: no other program can be expected to come nearer
needs: torch==2.11.0 transformers==5.17.0 compressed-tensors==0.19.0; for GPTQ and AWQ gptqmodel and optimum
"""
import argparse
import importlib.metadata
import json
import math
import os
import shutil
import sys

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # GPTQModel would compile for half a minute

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

FAR = 0.999  # cosine
PACKAGES = {"compressed-tensors": ["compressed-tensors"], "gptq": ["gptqmodel", "optimum"], "awq": ["gptqmodel"], "fp8": []}


def options(config):
    """Of GPTQModel's kernels the plainest: GPTQ's computes in float32, AWQ's in float16."""
    method = config.quantization_config["quant_method"]
    if method == "gptq":
        from transformers import GPTQConfig
        return {"quantization_config": GPTQConfig(bits=4, backend="torch")}
    if method == "awq":
        from transformers import AwqConfig
        return {"quantization_config": AwqConfig(bits=4, backend="torch_awq")}
    return {}


def perturbed(model, ids, seed):
    """The logits after relative noise of half an ulp in the embeddings."""
    e = model.get_input_embeddings()(ids)
    noise = torch.randn(e.shape, generator=torch.Generator().manual_seed(seed))
    return model(inputs_embeds=e * (1 + 2.0 ** -24 * noise), use_cache=False).logits[0].float()


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.double().flatten(), b.double().flatten(), 0).item()


def perplexity(model, ids, window, windows):
    """Mean NLL of the next tokens in non-overlapping windows."""
    total = 0.0
    for i in range(windows):
        w = ids[:, i * window:(i + 1) * window]
        logits = model(w, use_cache=False).logits[0, :-1].float()
        total += torch.nn.functional.cross_entropy(logits, w[0, 1:], reduction="sum").item()
    return math.exp(total / (windows * (window - 1)))


def recorded(model, names):
    """The inputs and outputs that the linears below names will have seen last."""
    dump = {}

    def record(name):
        def hook(_, inputs, output):
            dump[name + ".in"] = inputs[0][0].detach().float().clone().contiguous()
            dump[name + ".out"] = output[0].detach().float().clone().contiguous()
        return hook

    for name, module in model.named_modules():
        if name.startswith(names) and (isinstance(module, torch.nn.Linear) or hasattr(module, "qweight")):
            module.register_forward_hook(record(name))
    return dump


def load(checkpoint, config):
    model, info = AutoModelForCausalLM.from_pretrained(
        checkpoint, config=config, dtype=torch.float32, output_loading_info=True, **options(config))
    bad = {k: sorted(map(str, v)) for k, v in info.items() if v}
    if bad:
        sys.exit(f"{checkpoint}: transformers reports {bad}")
    for name, p in model.named_parameters():
        # transformers leaves experts, which it decompresses to bf16 while it loads, and routers in bf16.
        if p.dtype == torch.bfloat16 and (".experts." in name or name.endswith(".gate.weight")):
            p.data = p.data.float()
    return model.eval(), {k: len(v) for k, v in info.items()}


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint")
    ap.add_argument("out")
    ap.add_argument("text")
    ap.add_argument("--config")
    ap.add_argument("--tokens", type=int, default=64)
    ap.add_argument("--windows", type=int, default=5)
    ap.add_argument("--window", type=int, default=512)
    args = ap.parse_args()
    config = AutoConfig.from_pretrained(args.config or args.checkpoint)
    method = config.quantization_config["quant_method"]
    model, loading = load(args.checkpoint, config)
    with open(args.text, encoding="utf-8") as f:
        whole = torch.tensor(AutoTokenizer.from_pretrained(args.checkpoint).encode(f.read()))[None]
    ids, n = whole[:, :args.tokens], config.num_hidden_layers
    # The first forward decompresses the weights.
    result = perplexity(model, whole, args.window, args.windows)
    dump = recorded(model, tuple(f"model.layers.{i}." for i in sorted({0, n // 2, n - 1})))
    noisy = [perturbed(model, ids, seed) for seed in range(5)]
    # The last forward is what the hooks leave in the dump.
    logits = model(ids, use_cache=False).logits[0].float()
    itself = [cosine(logits, other) for other in noisy]
    os.makedirs(args.out, exist_ok=True)
    dump |= {"ids": ids[0].contiguous(), "logits": logits.contiguous()}
    if min(itself) < FAR:
        dump |= {f"logits.{i}": other.contiguous() for i, other in enumerate(noisy, 1)}
    save_file(dump, os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})
    shutil.copy(os.path.join(args.checkpoint, "config.json"), args.out)
    with open(os.path.join(args.out, "transformers.json"), "w", encoding="utf-8") as f:
        json.dump({
            "versions": {p: importlib.metadata.version(p) for p in ["torch", "transformers", *PACKAGES[method]]},
            "loading": loading, "cosine_itself": [min(itself), max(itself)],
            "windows": args.windows, "window": args.window, "perplexity_transformers": result,
        }, f, indent=1)


if __name__ == "__main__":
    main()
