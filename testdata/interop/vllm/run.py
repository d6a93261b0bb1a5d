#!/usr/bin/env python3
"""Run dump.py for every case side by side on one GPU and pack the dumps.

usage: run.py THERE OUT_DIR [--jobs 16] [--limit 150] [--total 400] [CASE...]      with vLLM on PYTHONPATH

A case has LIMIT seconds, a log, and a second try if the first did not end well and time is left in TOTAL. Whatever
happens to one, the others go on. OUT_DIR receives dumps.tar.xz.00, .01, ... of at most 15 MiB; cat joins them.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time

PART = 15 << 20
# Every engine opens ports upwards from its own.
FIRST_PORT, PORTS = 21000, 200


def attempt(args, number, name, work):
    """One try. Returns what went wrong, or None."""
    out = os.path.join(work, name)
    env = os.environ | {"VLLM_PORT": str(FIRST_PORT + number * PORTS), "VLLM_HOST_IP": "127.0.0.1", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, os.path.join(args.there, "dump.py"), args.there,
               os.path.join(args.there, "cases", name + ".json"), out]
    os.makedirs(out, exist_ok=True)
    try:
        with open(os.path.join(out, "log"), "wb") as log:
            done = subprocess.run(command, env=env, stdout=log, stderr=subprocess.STDOUT, timeout=args.limit)
        problem = f"exit status {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired:
        problem = f"stopped after {args.limit} s"
    result = os.path.join(out, "vllm.json")
    if problem and not os.path.exists(result):
        with open(result, "w", encoding="utf-8") as f:
            json.dump({"error": problem, "seconds": args.limit}, f)
    elif problem is None and not os.path.exists(result):
        problem = "no result"
    return problem


def case(args, number, name, work, start):
    began = time.time()
    problem = attempt(args, number, name, work)
    if problem and time.time() - start + args.limit < args.total:
        print(f"{name}: {problem}, once more", flush=True)
        for file in ("vllm.json", "model.safetensors"):
            if os.path.exists(os.path.join(work, name, file)):
                os.remove(os.path.join(work, name, file))
        problem = attempt(args, number, name, work)
    print(f"{time.time() - start:5.0f} s  {name}: {problem or 'done'} ({time.time() - began:.0f} s)", flush=True)
    return problem


def pack(work, out):
    """tar and xz without the temporary copy that a large archive would be."""
    tar = subprocess.Popen(["tar", "cf", "-", "-C", work, "."], stdout=subprocess.PIPE)
    xz = subprocess.Popen(["xz", "-3", "-T0"], stdin=tar.stdout, stdout=subprocess.PIPE)
    for number in range(100):
        part = xz.stdout.read(PART)
        if not part:
            break
        with open(os.path.join(out, f"dumps.tar.xz.{number:02}"), "wb") as f:
            f.write(part)
    if tar.wait() or xz.wait():
        sys.exit("packing failed")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("there")
    ap.add_argument("out")
    ap.add_argument("--jobs", type=int, default=16)
    ap.add_argument("--limit", type=int, default=150)
    ap.add_argument("--total", type=int, default=400)
    ap.add_argument("cases", nargs="*")
    args = ap.parse_intermixed_args()  # cases may come after options
    names = args.cases or sorted(f.removesuffix(".json") for f in os.listdir(os.path.join(args.there, "cases")))
    os.makedirs(args.out, exist_ok=True)
    start = time.time()
    with tempfile.TemporaryDirectory() as work:
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            problems = list(pool.map(lambda n: case(args, names.index(n), n, work, start), names))
        pack(work, args.out)
    print(f"{len(names) - sum(map(bool, problems))} of {len(names)} cases done, {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
