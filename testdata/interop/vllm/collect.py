#!/usr/bin/env python3
"""Put what vLLM and TestVLLM left of each case into one file.

usage: collect.py DIR OUT.json        (DIR as given to prepare.sh, dumps in DIR/dumps)

A case that vLLM refused is a row with its error, unless it is one that vLLM must load; that, and a case that
TestVLLM did not pass, is a failure: nothing is written then.
"""
import datetime
import json
import os
import subprocess
import sys

FAULT = 200  # characters of an error that a row keeps


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return json.load(f)


def row(folder, case):
    dump = os.path.join(folder, "dumps", case["name"])
    result = {k: v for k, v in case.items() if k not in ("ours", "must", "trained", "export")}
    result |= {k: v for k, v in read(dump, "vllm.json").items() if k != "greedy"}
    if "error" in result:
        if case["must"]:
            sys.exit(f"{case['name']}: vLLM did not load it: {result['error']}")
        result["error"] = " ".join(result["error"].split())[:FAULT]
        return result
    return result | read(dump, "ours.json")


def distinct(rows, key):
    """What the cases that ran say, each once; rows lose it."""
    found = []
    for r in rows:
        value = r.pop(key, None)
        if value is not None and value not in found:
            found.append(value)
    return found


def main(folder, out):
    names = sorted(os.listdir(os.path.join(folder, "there", "cases")))
    rows = [row(folder, read(folder, "there", "cases", n)) for n in names]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    devices, versions = distinct(rows, "device"), distinct(rows, "versions")
    if len(versions) != 1:
        sys.exit(f"want one set of versions: {versions}")
    result = {"date": datetime.date.today().isoformat(), "commit": commit, "command": "make vllm-prepare, vllm-collect",
              "device": " and ".join(devices), "versions": versions[0], "cases": rows}
    with open(out, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
