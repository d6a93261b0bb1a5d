"""Load an exported checkpoint the way users do and compare it with our decoding.

    go run ./testdata/interop/decoded OUT > decoded.json
    python testdata/interop/load.py OUT [--config OUT/w4a16] [--decoded decoded.json] [--forward]

transformers with compressed-tensors must find every tensor and nothing else,
and the weights it decompresses must equal ours bit for bit. Needs torch,
transformers and compressed-tensors; no GPU.
"""

import argparse
import hashlib
import json
import os
import sys

os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--config", help="directory of another config.json for the same tensors")
    parser.add_argument("--decoded", help="hashes of our decoded weights")
    parser.add_argument("--forward", action="store_true", help="also run eight tokens")
    a = parser.parse_args()

    options = {"dtype": torch.float32, "output_loading_info": True}
    if a.config:
        options["config"] = AutoConfig.from_pretrained(a.config)
    model, info = AutoModelForCausalLM.from_pretrained(a.out, **options)
    bad = {k: sorted(map(str, v)) for k, v in info.items() if v}
    if bad:
        sys.exit(f"loading info is not empty: {bad}")
    print("every key found, none unexpected")

    model.hf_quantizer.compressor.decompress_model(model=model)
    if a.forward:
        with torch.no_grad():
            logits = model(torch.arange(1, 9)[None]).logits
        if not torch.isfinite(logits).all():
            sys.exit("logits are not finite")
        print("logits", tuple(logits.shape), "finite")
    if a.decoded:
        compare(model, a.decoded)


def compare(model, path):
    """Demand that every weight, decompressed, has the bytes of ours."""
    modules = dict(model.named_modules())
    with open(path) as f:
        ours = json.load(f)
    quantized = {n for n, m in modules.items() if getattr(m, "quantization_scheme", None) is not None}
    if quantized != set(ours):
        sys.exit(f"quantized modules differ: {sorted(quantized ^ set(ours))[:5]}")
    differ = []
    for name, want in ours.items():
        weight = modules[name].weight.detach()
        if weight.dtype != torch.float32:
            sys.exit(f"{name}: decompressed to {weight.dtype}")
        if hashlib.sha256(weight.contiguous().numpy().tobytes()).hexdigest() != want:
            differ.append(name)
    print(f"{len(ours)} weights compared, {len(differ)} differ")
    if differ:
        sys.exit(f"differ: {differ[:5]}")


if __name__ == "__main__":
    main()
