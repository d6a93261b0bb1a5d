"""Times cuBLAS bf16 and cuBLASLt FP8 (per tensor, per token) through PyTorch and, where vLLM 0.26 can be imported, its W4A8 kernel, as
bench.go times ours: CUDA graphs, weights rotated beyond the L2 cache, random data, medians. Writes JSON.

usage: competitors.py OUT.json SHAPES TOKENS     shapes as NxK, lists with commas
"""
import json
import sys

import torch

try:
    import vllm._C_stable_libtorch  # noqa: F401  registers torch.ops._C.cutlass_*
    VLLM = hasattr(torch.ops._C, "cutlass_w4a8_mm")
except ImportError as e:
    print(f"vLLM's kernel is not timed: {e}")
    VLLM = False

GROUP = 128
L2 = torch.cuda.get_device_properties(0).L2_cache_size


def median_us(calls, flop):
    """The median time of one call of a graph that goes through `calls` again and again."""
    launches = max(len(calls), min(64, int(400e-6 / (flop / 1e15 + 4e-6)) + 1))
    launches = -(-launches // len(calls)) * len(calls)
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
    if flop > 1e11:  # long enough that a large product meets the card's power limit, as it does in use
        for _ in range(int(0.1 / (launches * flop / 1e15)) + 1):
            graph.replay()
    for i in range(12):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / launches)
    return sorted(times[1:])[len(times[1:]) // 2]


class W4A8:
    """A random weight as vLLM's CutlassW4A8LinearKernel keeps it: codes in its order, scales as tables of E4M3."""

    def __init__(self, n, k):
        words = torch.randint(-2**31, 2**31, (n, k // 8), device="cuda", dtype=torch.int64).to(torch.int32)  # eight signed codes each
        self.codes, self.eighths = words, (torch.randn(k // GROUP, n, device="cuda") / 4).exp().to(torch.float8_e4m3fn)
        self.packed = torch.ops._C.cutlass_encode_and_reorder_int4b(words.t())
        self.tables = torch.ops._C.cutlass_pack_scale_fp8(self.eighths)
        self.channel = torch.rand(n, 1, device="cuda") + 0.5

    def multiply(self, x8, token):
        return torch.ops._C.cutlass_w4a8_mm(x8, self.packed, self.tables, GROUP, self.channel, token, torch.bfloat16, None)

    def check(self, x8, token):
        """Its operand is e4m3(code * eighth): demand what that gives, summed by the tensor core."""
        nibbles = torch.stack([self.codes >> 4 * i & 15 for i in range(8)], -1).flatten(1)
        codes = torch.where(nibbles > 7, nibbles - 16, nibbles).float()
        w = (codes * self.eighths.float().t().repeat_interleave(GROUP, 1)).clamp(-448, 448).to(torch.float8_e4m3fn)
        want = (x8.double() @ w.double().t()) * self.channel.double().t() * token.double()
        error = ((self.multiply(x8, token).double() - want).norm() / want.norm()).item()
        if not error < 1e-2:
            sys.exit(f"vLLM's W4A8 kernel is {error} off at {tuple(codes.shape)}: not timed")


def main(out, shapes, tokens):
    rows = []
    for n, k in shapes:
        for m in tokens:
            flop = 2.0 * m * n * k
            row = {"m": m, "n": n, "k": k}
            x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
            copies = max(2, -(-4 * L2 // (n * k * 2)))
            w = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(copies)]
            y = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
            row["cublas_bf16"] = median_us([lambda w=w: torch.mm(x, w.t(), out=y) for w in w], flop)
            copies = max(2, -(-4 * L2 // (n * k)))
            w8 = [(torch.randn(n, k, device="cuda") / 4).to(torch.float8_e4m3fn) for _ in range(copies)]
            padded = -(-m // 16) * 16
            x8 = torch.randn(padded, k, device="cuda").to(torch.float8_e4m3fn)
            one = torch.ones((), device="cuda")
            by_token, by_channel = torch.ones(padded, 1, device="cuda"), torch.ones(1, n, device="cuda")
            for key, a, b in (("cublaslt_fp8_tensor", one, one), ("cublaslt_fp8_token", by_token, by_channel)):
                row[key] = median_us(
                    [lambda w=w: torch._scaled_mm(x8, w.t(), scale_a=a, scale_b=b, out_dtype=torch.bfloat16, use_fast_accum=True) for w in w8], flop)
            if VLLM and n % 128 == 0 and k % 128 == 0:
                w4 = [W4A8(n, k) for _ in range(max(2, -(-4 * L2 // (n * k // 2))))]
                x4, token = x8[:m].contiguous(), torch.rand(m, 1, device="cuda") + 0.5
                if m <= 16:
                    w4[0].check(x4, token)
                row["vllm_w4a8"] = median_us([lambda w=w: w.multiply(x4, token) for w in w4], flop)
            rows.append(row)
            print(f"{n}x{k} M {m:5d} " + "  ".join(f"{key} {v:.2f} us ({flop / v / 1e6:.0f} TF)" for key, v in row.items() if isinstance(v, float)), flush=True)
    json.dump({"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "rows": rows}, open(out, "w"), indent=1)


if __name__ == "__main__":
    main(sys.argv[1], [tuple(map(int, s.split("x"))) for s in sys.argv[2].split(",")], [int(m) for m in sys.argv[3].split(",")])
