#!/usr/bin/env bash
# Export what vLLM is to load, here; run.py runs it on a machine with a Hopper GPU, which needs neither Go nor a
# network; TestVLLM and collect.py then judge the dumps, here again (docs/interop.md has the commands).
#
# usage: prepare.sh DIR [NAME=EXPORT...]       environment: PYTHON (an environment to use in place of a new one)
#   NAME=EXPORT        a trained model that `quantize run` has quantized, to load beside the demo and the random ones
#   DIR/there          all that the other machine needs beside vLLM: exports, token ids, cases, scripts
#   DIR/vllm.tar.xz    the same, packed, without the weights of NAME=EXPORT
#   DIR/NAME.tar       those
#   DIR/plain          what the bytes of GPTQ, AWQ and FP8 blocks mean, for our side of the comparison
set -euo pipefail
cd "$(dirname "$0")/../../.."
dir=${1:?directory} && shift
mkdir -p "$dir"
dir=$(realpath "$dir")
python=${PYTHON:-$dir/venv/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv "$dir/venv"
  "$python" -m pip install -q torch==2.11.0 transformers==5.17.0 compressed-tensors==0.19.0 accelerate
fi
go build -o "$dir/quantize" ./cmd/quantize
go build -o "$dir/plain-of" ./testdata/interop/plain
quantize=$dir/quantize there=$dir/there exports=$dir/there/exports
rm -rf "$dir/demo" "$dir/tiny" "$dir/plain" "$there"
mkdir -p "$exports" "$there/cases" "$there/tokens" "$dir/plain"

# add NAME MODEL FORMAT RECIPE EXPORT READING [KEY=VALUE...]: a case. Keys are
#   config=FOLDER   of EXPORT, with a config.json in the place of its own
#   ours=PATH       below DIR: what we run, EXPORT itself if not given
#   dtype=TYPE      of activations, bfloat16 if not given
#   mode=MODE       compiled, as vLLM runs by itself; eager if not given
#   must=true       vLLM has to load it; where others are refused, the row says why
#   trained=true    not random: its distance to ours is bounded
add() {
  "$python" - "$there/cases/$1.json" "$@" << 'END'
import json, sys
out, name, model, format, recipe, export, reading, *more = sys.argv[1:]
case = dict(name=name, model=model, format=format, recipe=recipe, export=export, reading=reading, config="", ours="",
            dtype="bfloat16", mode="eager", must="", trained="")
json.dump(case | dict(m.split("=", 1) for m in more), open(out, "w"), indent=1)
END
  printf '%4s s  %s\n' "$SECONDS" "$1"
}

# int4 NAME MODEL RECIPE EXPORT [KEY=VALUE...]: the config files of an INT4 export, W4A16's alone if it has no other
int4() {
  local name=$1 model=$2 recipe=$3 export=$4 config=
  shift 4
  if [ -e "$exports/$export/w4a16/config.json" ]; then
    config=w4a16
    add "$name-w4a8" "$model" "compressed-tensors W4A8" "$recipe" "$export" lut must=true "$@"
  fi
  add "$name-w4a16" "$model" "compressed-tensors W4A16" "$recipe" "$export" weight-only must=true config=$config "$@"
  if [[ " $* " = *" trained=true "* ]]; then # W4A8 has no kernel for it
    add "$name-w4a16-float16" "$model" "compressed-tensors W4A16" "$recipe" "$export" weight-only must=true config=$config \
      dtype=float16 "$@"
  fi
}

# converted NAME FORMAT RECIPE FROM TO: a case of another format, made of the export at FROM
converted() {
  "$quantize" convert "$4" --to "$5" -o "$exports/$1" > /dev/null
  "$dir/plain-of" "$exports/$1" "$dir/plain/$1"
  add "$1" demo "$2" "$3" "$1" weight-only ours="plain/$1"
}

"$quantize" demo -o "$dir/demo" > /dev/null
base=$dir/demo/base
"$python" testdata/interop/vllm/tokens.py "$base" "$there/tokens/demo.json" 4 "$dir/demo/evaluation.txt"
cp -r "$dir/demo/quantized" "$exports/demo"
int4 demo demo demo demo trained=true
add demo-w4a8-compiled demo "compressed-tensors W4A8" demo demo lut must=true trained=true mode=compiled
"$quantize" run "$base" -o "$exports/demo-fp8" --recipe fp8 > /dev/null
add demo-fp8 demo "compressed-tensors FP8 per channel" fp8 demo-fp8 exact
"$quantize" convert "$exports/demo-fp8" --to modelopt -o "$exports/demo-modelopt" > /dev/null
add demo-modelopt demo "modelopt FP8 per channel" fp8 demo-modelopt exact must=true ours=there/exports/demo-fp8
"$quantize" run "$base" -o "$exports/demo-kv" --recipe rtn --kv fp8 --calib "$dir/demo/calibration.txt" > /dev/null
add demo-kv demo "compressed-tensors W4A8, FP8 cache" "rtn, kv fp8" demo-kv lut
converted demo-gptq GPTQ demo "$exports/demo" gptq
converted demo-awq AWQ demo "$exports/demo" awq
"$python" testdata/interop/blocks.py "$base" "$dir/demo/blocks"
"$quantize" convert "$dir/demo/blocks" --to compressed-tensors -o "$dir/demo/blocks-compressed" > /dev/null
converted demo-fp8-block "FP8 in blocks of 128" blocks.py "$dir/demo/blocks-compressed" fp8-block

"$python" testdata/interop/tiny.py "$dir/tiny" "$base" hopper
for model in qwen2 mixtral qwen3-moe; do
  "$python" testdata/interop/vllm/tokens.py "$dir/tiny/$model" "$there/tokens/$model.json" 2
  "$quantize" run "$dir/tiny/$model" -o "$exports/$model" --recipe rtn > /dev/null
  int4 "$model" "$model" rtn "$model"
done

others=()
for given in "$@"; do
  name=${given%%=*} from=$(realpath "${given#*=}")
  "$python" testdata/interop/vllm/tokens.py "$from" "$there/tokens/$name.json" 8 "$dir/demo/evaluation.txt"
  cp -r "$from" "$exports/$name"
  recipe=$("$python" -c 'import json, re, sys; print(re.search(r"^name: (.+)$", json.load(open(sys.argv[1]))["recipe"], re.M)[1])' \
    "$from/quantize/manifest.json")
  int4 "$name" "$name" "$recipe" "$name" trained=true
  (cd "$dir" && tar cf "$name.tar" "there/exports/$name/"*.safetensors)
  others+=(--exclude "there/exports/$name/*.safetensors")
done
rm -f "$exports"/*/tokenizer.json # token ids travel in its place
cp testdata/interop/vllm/dump.py testdata/interop/vllm/run.py "$there"
tar cf - -C "$dir" "${others[@]}" there | xz -9 > "$dir/vllm.tar.xz"
ls -l "$dir/vllm.tar.xz"
