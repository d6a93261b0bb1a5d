#!/usr/bin/env python3
"""Write the token ids that vLLM and our forward pass are compared on: a JSON list of windows.

usage: tokens.py MODEL OUT.json WINDOWS [TEXT]       without TEXT: random ids of MODEL's vocabulary
needs: transformers==5.17.0
"""
import json
import os
import random
import sys

from transformers import AutoTokenizer

WINDOW = 256


def main(model, out, windows, text=None):
    n = int(windows) * WINDOW
    with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
        vocabulary = json.load(f)["vocab_size"]
    if text:
        with open(text, encoding="utf-8") as f:
            ids = AutoTokenizer.from_pretrained(model).encode(f.read())[:n]
    else:
        ids = random.Random(1).choices(range(vocabulary), k=n)
    if len(ids) < n:
        sys.exit(f"{text}: {len(ids)} tokens, want {n}")
    with open(out, "w", encoding="utf-8") as f:
        json.dump([ids[i:i + WINDOW] for i in range(0, n, WINDOW)], f)


if __name__ == "__main__":
    main(*sys.argv[1:])
