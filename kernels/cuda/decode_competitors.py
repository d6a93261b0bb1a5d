"""Times the attention of PyTorch (scaled_dot_product_attention, BF16, each backend that takes the shape) as kvspeed_test.go times ours:
CUDA graphs, caches rotated beyond the L2 cache, random data, medians. Writes JSON.

usage: decode_competitors.py OUT.json SHAPES     shapes as BxSxHEADSxKVHEADSxD, a list with commas
"""
import json
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

L2 = torch.cuda.get_device_properties(0).L2_cache_size
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def median_us(calls, floor_us):
    """The median time of one call of a graph that goes through `calls` again and again."""
    launches = -(-max(len(calls), int(1000 / floor_us)) // len(calls)) * len(calls)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(launches):
            calls[i % len(calls)]()
    times = []
    for _ in range(13):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / launches)
    return sorted(times[2:])[5]


def decode(out, shapes):
    """One query token a sequence; a backend that does not share KV heads gets them repeated, and its key says so."""
    rows = []
    for batch, tokens, heads, kv_heads, d in shapes:
        cache_bytes = 4 * batch * kv_heads * tokens * d
        floor_us = cache_bytes / 5e12 * 1e6
        copies = max(2, -(-4 * L2 // cache_bytes))
        caches = [torch.randn(2, batch, kv_heads, tokens, d, device="cuda", dtype=torch.bfloat16) for _ in range(copies)]
        q = torch.randn(batch, heads, 1, d, device="cuda", dtype=torch.bfloat16)
        row = {"batch": batch, "tokens": tokens, "heads": heads, "kv_heads": kv_heads, "d": d}
        for name, backend in BACKENDS.items():
            for repeated in (False, True):
                key = name + ("_repeated" if repeated else "")
                used = caches if not repeated else [c.repeat_interleave(heads // kv_heads, dim=2) for c in caches[:2]]
                try:
                    with sdpa_kernel(backend):
                        row[key] = median_us(
                            [lambda c=c, r=repeated: torch.nn.functional.scaled_dot_product_attention(q, c[0], c[1], enable_gqa=not r) for c in used], floor_us)
                    break
                except RuntimeError as error:  # this backend does not take the shape
                    row[key + "_error"] = str(error).splitlines()[0][:120]
                    torch.cuda.synchronize()
                finally:
                    del used
        rows.append(row)
        print(f"B {batch} S {tokens} heads {heads}/{kv_heads} d {d}: "
              + "  ".join(f"{key} {v:.1f} us ({cache_bytes / v / 1e6:.2f} TB/s)" for key, v in row.items() if isinstance(v, float)), flush=True)
        del caches
    json.dump({"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "rows": rows}, open(out, "w"), indent=1)


if __name__ == "__main__":
    decode(sys.argv[1], [tuple(map(int, s.split("x"))) for s in sys.argv[2].split(",")])
