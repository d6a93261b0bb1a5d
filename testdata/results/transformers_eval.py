#!/usr/bin/env python3
"""Perplexity and speed of a checkpoint in transformers on the CPU, by the protocol of `quantize eval`.

usage: transformers_eval.py MODEL_DIR TEXT_FILE WINDOWS [--window 2048] [--threads 2]   prints one JSON object

FP32 arithmetic, non-overlapping windows of the whole tokenized text, mean NLL over window-1 positions.
The clock runs over the forward passes and the NLL, not over loading; the first window warms up and is
timed apart when there are several.
"""
import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("text")
    ap.add_argument("windows", type=int)
    ap.add_argument("--window", type=int, default=2048)
    ap.add_argument("--threads", type=int, default=2)
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    tok = AutoTokenizer.from_pretrained(args.model)
    ids = torch.tensor(tok.encode(open(args.text, encoding="utf-8").read()))
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    window = min(args.window, model.config.max_position_embeddings)
    total, seconds = 0.0, []
    for i in range(args.windows):
        w = ids[None, i * window:(i + 1) * window]
        start = time.perf_counter()
        logits = model(w, use_cache=False).logits[0, :-1]
        total += F.cross_entropy(logits, w[0, 1:], reduction="sum").item()
        seconds.append(time.perf_counter() - start)
    timed = seconds[1:] or seconds
    print(json.dumps({"model": args.model.rstrip("/").rsplit("/", 1)[-1], "windows": args.windows, "window": window,
                      "perplexity": math.exp(total / (args.windows * (window - 1))),
                      "tokens_per_second": window * len(timed) / sum(timed), "torch": torch.__version__,
                      "threads": args.threads}))


if __name__ == "__main__":
    main()
