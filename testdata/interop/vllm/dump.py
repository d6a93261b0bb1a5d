#!/usr/bin/env python3
"""Load one export in vLLM and dump what it holds and computes. run.py calls this, once a case.

usage: dump.py THERE CASE.json OUT_DIR

OUT_DIR then holds, for the Go test TestVLLM in package kernels,
  vllm.json            versions, device, the kernels that vLLM chose, greedy tokens; or "error"
  model.safetensors    ids (windows, tokens) and logprobs (windows * (tokens - 1), vocabulary) in float32. Of a
                       vocabulary above WHOLE in its place top_ids and logprobs (windows * (tokens - 1), 1 + TOP):
                       the token that follows, then the likeliest by rank. And of every W4A8 linear what vLLM
                       made of its scales while loading:
                         NAME.s8, NAME.chan       E4M3 bytes (N, groups), FP32 (N): before the split by 8
                         NAME.table, NAME.chan8   as the kernel holds them: 8 bytes a group (group-major), FP32
                       and of every linear of the first, middle and last block, while it reads the greedy prompt:
                         NAME.in, NAME.out        (PROMPT, K) and (PROMPT, N) in float32; none where vLLM compiles
  config.json          the export's
needs: vllm==0.26.0 and a Hopper GPU
"""
import collections
import importlib.metadata
import json
import os
import shutil
import sys
import time

for key, value in {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the model must be in this process to be looked at
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
}.items():
    os.environ.setdefault(key, value)

PROMPT, GREEDY = 64, 64
WHOLE, TOP = 16384, 64
PACKAGES = ["vllm", "torch", "transformers", "compressed-tensors", "triton"]


def record_scales():
    """vLLM keeps the table of products, not s8: keep each weight's (s8, chan) with its layer as they are made."""
    from vllm.model_executor.kernels.linear.mixed_precision import cutlass
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
        compressed_tensors_moe_w4a8_fp8 as moe)
    from vllm.model_executor.layers.quantization.utils import quant_utils
    split, made = quant_utils.convert_bf16_scales_to_fp8, []

    def convert(quant_fp8, scales):
        def keep(x):
            s8, chan = quant_fp8(x)
            made.append((s8.clone(), chan.clone()))
            return s8, chan
        return split(keep, scales)

    def keeping(cls):
        process = cls.process_weights_after_loading

        def wrapped(self, layer):
            made.clear()
            process(self, layer)
            layer.made_of_scales = list(made)
        cls.process_weights_after_loading = wrapped

    quant_utils.convert_bf16_scales_to_fp8 = cutlass.convert_bf16_scales_to_fp8 = convert
    keeping(cutlass.CutlassW4A8LinearKernel)
    keeping(moe.CompressedTensorsW4A8Fp8MoEMethod)


def scales(model):
    """What record_scales kept, and what the kernels hold, by module name; experts under one another."""
    import torch
    tensors = {}
    for name, layer in model.named_modules():
        made = getattr(layer, "made_of_scales", [])
        for prefix, (s8, chan) in zip(["w13_", "w2_"] if len(made) == 2 else [""], made):
            key = f"{name}.{prefix}".rstrip("._")
            table, chan8 = getattr(layer, prefix + "weight_scale"), getattr(layer, prefix + "weight_chan_scale")
            for part, t in {"s8": s8, "table": table}.items():
                tensors[f"{key}.{part}"] = t.detach().contiguous().view(torch.uint8).cpu().clone()
            for part, t in {"chan": chan, "chan8": chan8}.items():
                tensors[f"{key}.{part}"] = t.detach().float().flatten().cpu().clone()
    return tensors


LINEARS = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def record_linears(model, dump):
    """Leave in dump what linears of the first, middle and last block will receive and return for PROMPT tokens."""
    def record(name):
        def hook(_, inputs, output):
            x, y = inputs[0], output[0]
            if x.shape[0] == PROMPT:
                dump[name + ".in"], dump[name + ".out"] = (v.detach().float().cpu().contiguous() for v in (x, y))
        return hook

    n = model.config.num_hidden_layers
    blocks = tuple(f"model.layers.{i}." for i in {0, n // 2, n - 1})
    for name, module in model.named_modules():
        if name.startswith(blocks) and name.endswith(LINEARS):
            module.register_forward_hook(record(name))


def kernels(model):
    """How many modules run by which method, scheme and kernel."""
    count = collections.Counter()
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if method is None or "Unquantized" in type(method).__name__ or "KVCache" in type(method).__name__:
            continue
        owners, parts = [method, getattr(module, "scheme", None)], []
        for owner in owners:
            if owner is None:
                continue
            parts.append(type(owner).__name__)
            for value in vars(owner).values():
                kind = value if isinstance(value, type) else type(value)
                if kind.__name__.endswith(("Kernel", "Experts", "LinearOp")):
                    parts.append(kind.__name__)
        count[" / ".join(dict.fromkeys(parts))] += 1
    return dict(count)


def attention(model):
    """Backend, cache type and, where the cache has 8 bits, the scales of each attention layer."""
    kinds, cache_scales = collections.Counter(), {}
    for name, module in model.named_modules():
        if hasattr(module, "attn_backend"):
            kinds[f"{module.attn_backend.get_name()}, cache {module.kv_cache_dtype}"] += 1
            if "fp8" in module.kv_cache_dtype:
                cache_scales[name] = [module._k_scale_float, module._v_scale_float]
    return {"attention": dict(kinds), "cache_scales": cache_scales}


def prompt_logprobs(output, vocabulary):
    """Tensors of a window. FlatLogprobs lists a position's tokens by rank, after the prompt's own."""
    import numpy as np
    import torch
    flat = output.prompt_logprobs
    spans = list(zip(flat.start_indices[1:], flat.end_indices[1:]))
    ids, values = np.array(flat.token_ids), np.array(flat.logprobs, dtype=np.float32)
    if vocabulary > WHOLE:
        ids, rows = (np.stack([x[start:end] for start, end in spans]) for x in (ids, values))
        found = {"top_ids": ids.astype(np.int64), "logprobs": rows}
    else:
        rows = np.full((len(spans), vocabulary), np.nan, dtype=np.float32)
        for row, (start, end) in zip(rows, spans):
            row[ids[start:end]] = values[start:end]
        found = {"logprobs": rows}
    if np.isnan(rows).any():
        raise ValueError(f"{np.isnan(rows).sum()} of {rows.size} log-probs are missing or NaN")
    return {name: torch.from_numpy(x) for name, x in found.items()}


def run(there, case, out):
    import torch
    from safetensors.torch import save_file
    from vllm import LLM, SamplingParams
    record_scales()
    export = os.path.join(there, "exports", case["export"])
    config = os.path.join(export, case["config"]) if case["config"] else None
    with open(os.path.join(there, "tokens", case["model"] + ".json"), encoding="utf-8") as f:
        windows = json.load(f)
    llm = LLM(export, hf_config_path=config, skip_tokenizer_init=True, enforce_eager=case["mode"] == "eager", dtype=case["dtype"],
              attention_backend="TRITON_ATTN", max_model_len=512, max_num_batched_tokens=1024, max_num_seqs=8,
              gpu_memory_utilization=0.03, kv_cache_memory_bytes=128 << 20, max_logprobs=-1,
              enable_prefix_caching=False, seed=0)
    found = llm.apply_model(lambda m: (scales(m), kernels(m), attention(m)))[0]
    vocabulary = llm.llm_engine.model_config.get_vocab_size()
    top = TOP if vocabulary > WHOLE else -1
    outputs = llm.generate([{"prompt_token_ids": w} for w in windows],
                           SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=top, flat_logprobs=True,
                                          detokenize=False), use_tqdm=False)
    parts = [prompt_logprobs(o, vocabulary) for o in outputs]
    dump = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
    if case["mode"] == "eager":
        llm.apply_model(lambda m: record_linears(m, dump))
    greedy = llm.generate([{"prompt_token_ids": windows[0][:PROMPT]}],
                          SamplingParams(temperature=0, max_tokens=GREEDY, ignore_eos=True, detokenize=False),
                          use_tqdm=False)
    save_file(found[0] | dump | {"ids": torch.tensor(windows)}, os.path.join(out, "model.safetensors"))
    shutil.copy(os.path.join(config or export, "config.json"), out)
    return {
        "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
        "device": torch.cuda.get_device_name(), "kernels": found[1], **found[2],
        "windows": len(windows), "window": len(windows[0]), "top": max(top, 0), "prompt": PROMPT, "greedy": list(greedy[0].outputs[0].token_ids),
    }


def main(there, case, out):
    start = time.time()
    os.makedirs(out, exist_ok=True)
    with open(case, encoding="utf-8") as f:
        case = json.load(f)
    failure = None
    try:
        result = run(there, case, out)
    except BaseException as e:  # pydantic's and the engine's own among them: the row says what stopped it
        failure, result = e, {"error": f"{type(e).__name__}: {e}"}
    with open(os.path.join(out, "vllm.json"), "w", encoding="utf-8") as f:
        json.dump(result | {"seconds": round(time.time() - start, 1)}, f, indent=1)
    if failure:
        raise failure


if __name__ == "__main__":
    main(*sys.argv[1:])
