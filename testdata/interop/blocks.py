#!/usr/bin/env python3
"""Round a model to FP8 in blocks of 128 x 128, as DeepSeek publishes its own: something to convert.

usage: blocks.py MODEL OUT        (one shard)
needs: torch==2.11.0
"""
import json
import os
import re
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

LINEAR = re.compile(r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight$")


def quantize(w):
    """The codes of w (N, K) and one FP32 scale for each square: w = code * scale."""
    n, k = w.shape
    scale = torch.nn.functional.max_pool2d(w.abs()[None], 128, ceil_mode=True)[0].clamp(min=2.0 ** -126) / 448
    whole = scale.repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)[:, :k]
    return (w / whole).to(torch.float8_e4m3fn), scale


def main(model, out):
    os.makedirs(out)
    tensors = {}
    for name, w in load_file(os.path.join(model, "model.safetensors")).items():
        if LINEAR.match(name):
            tensors[name], tensors[name + "_scale_inv"] = quantize(w.float())
        else:
            tensors[name] = w
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    config = json.load(open(os.path.join(model, "config.json")))
    config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
                                     "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}
    json.dump(config, open(os.path.join(out, "config.json"), "w"), indent=2)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(model, file), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
