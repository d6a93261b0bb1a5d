"""Times FlashAttention-2 and cuDNN (bf16) through PyTorch's scaled_dot_product_attention on the shapes of bench_attention.go, as that times
ours: CUDA graphs, two copies of all operands in turn, random data, medians. Operations are counted the same way: causal counts half. Writes JSON.

usage: prefill_competitors.py OUT.json
"""
import json
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

HEADS, KV_HEADS, COPIES, RATE = 32, 8, 2, 6e14
SHAPES = (  # batch, tokens, head_dim, causal: AttentionShapes
    (16, 1024, 128, False),
    (8, 2048, 128, True),
    (4, 4096, 128, False),
    (4, 4096, 128, True),
    (1, 16384, 128, False),
    (1, 16384, 128, True),
    (1, 32768, 128, True),
    (8, 2048, 64, True),
    (4, 4096, 64, False),
    (1, 16384, 64, True),
)
BACKENDS = {"fa2_bf16": SDPBackend.FLASH_ATTENTION, "cudnn_bf16": SDPBackend.CUDNN_ATTENTION}


def median_us(calls, flop):
    """The median time of one call of a graph that goes through `calls` again and again."""
    launches = len(calls) * max(1, int(1e-3 * RATE / flop))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(launches):
            calls[i % len(calls)]()
    for _ in range(max(2, int(0.1 * RATE / (launches * flop)) + 1)):  # to the card's power limit, as in use
        graph.replay()
    times = []
    for _ in range(21):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / launches)
    return sorted(times)[len(times) // 2]


def main(out):
    rows = []
    for batch, tokens, d, causal in SHAPES:
        flop = 4.0 * batch * HEADS * tokens * tokens * d / (2 if causal else 1)
        row = {"batch": batch, "tokens": tokens, "head_dim": d, "causal": causal}

        def operand(heads):  # (batch, heads, tokens, d), a token's heads next to each other in memory, as a model has them
            return torch.randn(batch, tokens, heads, d, device="cuda", dtype=torch.bfloat16).transpose(1, 2)

        copies = [(operand(HEADS), operand(KV_HEADS), operand(KV_HEADS)) for _ in range(COPIES)]
        for name, backend in BACKENDS.items():
            try:
                with sdpa_kernel(backend):
                    row[name] = median_us([lambda c=c: scaled_dot_product_attention(*c, is_causal=causal, enable_gqa=True) for c in copies], flop)
            except RuntimeError as e:
                print(f"{name}: {e}".splitlines()[0])
        rows.append(row)
        print(f"{batch:2d} x {tokens:5d} d {d:3d} causal {causal!s:5} " + "  ".join(f"{n} {row[n]:.1f} us ({flop / row[n] / 1e6:.0f} TFLOP/s)" for n in BACKENDS if n in row), flush=True)
        del copies
    json.dump({"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "rows": rows}, open(out, "w"), indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
