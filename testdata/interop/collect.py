#!/usr/bin/env python3
"""Put what transformers, `quantize eval` and TestInterop left of each case into one file.

usage: collect.py CASES OUT.json NAME...

A case of which a part is missing, or whose perplexities are further apart than LIMIT, is a failure: nothing
is written then.
"""
import datetime
import json
import os
import subprocess
import sys

LIMIT = 0.005  # of the ratio of perplexities to 1


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return json.load(f)


def case(folder):
    ours, eval_ = read(folder, "ours.json"), read(folder, "eval.json")
    theirs = read(folder, "dump", "transformers.json")
    if (theirs["windows"], theirs["window"]) != (eval_["windows"], eval_["window"]):
        sys.exit(f"{folder}: windows differ: {theirs['windows']} of {theirs['window']}, {eval_['windows']} of {eval_['window']}")
    return read(folder, "case.json") | theirs | ours | {
        "perplexity_quantize": eval_["perplexity"],
        "perplexity_ratio": eval_["perplexity"] / theirs["perplexity_transformers"],
    }


def main(cases, out, *names):
    rows = [{"name": name} | case(os.path.join(cases, name)) for name in names]
    apart = [f"{r['name']}: perplexity ratio {r['perplexity_ratio']:.5f}" for r in rows
             if not abs(r["perplexity_ratio"] - 1) <= LIMIT]
    if apart:
        sys.exit("\n".join(apart))
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    result = {"date": datetime.date.today().isoformat(), "commit": commit, "machine": f"{cpu}, {os.cpu_count()} cores",
              "command": "make interop", "perplexity_limit": LIMIT, "cases": rows}
    with open(out, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
