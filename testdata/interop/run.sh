#!/usr/bin/env bash
# Judge our exports by transformers: they load without a missing, unexpected or newly initialised key, every
# linear agrees with ours on the same input, and so do the logits and the perplexity. The result goes to
# testdata/results/interop.json when every case has passed; `make readme` makes docs/interop.md of it.
#
# usage: run.sh DIR [MODEL...]         environment: PYTHON, GPTQ_PYTHON (environments to use in place of new ones)
#   DIR     receives two virtual environments, the exports and the dumps
#   MODEL   further Hugging Face directories to export beside the demo model and tiny random ones
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${1:?directory} && shift
mkdir -p "$dir"
dir=$(realpath "$dir")
text=cmd/quantize/demo/evaluation.txt
pinned=(torch==2.11.0 transformers==5.17.0 compressed-tensors==0.19.0)
python=${PYTHON:-$dir/venv/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv "$dir/venv"
  "$python" -m pip install -q "${pinned[@]}" accelerate
fi
# GPTQModel pins another numpy: it has an environment of its own, on top of the first.
gptq=${GPTQ_PYTHON:-$dir/venv-gptq/bin/python}
if [ ! -x "$gptq" ]; then
  "$python" -m venv "$dir/venv-gptq"
  packages='import sysconfig; print(sysconfig.get_path("purelib"))'
  "$python" -c "$packages" > "$("$gptq" -c "$packages")/base.pth"
  "$gptq" -m pip install -q "${pinned[@]}" gptqmodel==7.3.6 optimum==2.3.0 torchvision==0.26.0
fi
go build -o "$dir/quantize" ./cmd/quantize
go build -o "$dir/plain" ./testdata/interop/plain
quantize=$dir/quantize
rm -rf "$dir/demo" "$dir/tiny" "$dir/exports" "$dir/cases"
mkdir "$dir/exports"
names=()

# judge NAME MODEL FORMAT RECIPE READING CHECKPOINT OURS [CONFIG]
# CHECKPOINT passes `quantize verify`; transformers loads it, with CONFIG/config.json if it is given; `quantize eval`
# runs OURS, the same or what its bytes mean, by READING.
judge() {
  local case=$dir/cases/$1 config=${8:-} runs=$python readings=()
  if [ -e "$7/w4a16/config.json" ]; then readings=(--arithmetic "$5"); fi # others have one
  case $3 in GPTQ|AWQ) runs=$gptq ;; esac
  mkdir -p "$case"
  "$quantize" verify "$6" > "$case/verify" || { cat "$case/verify" >&2; return 1; }
  names+=("$1")
  ln -s "$7" "$case/ours"
  printf '{"model": "%s", "format": "%s", "recipe": "%s", "reading": "%s", "config": "%s"}\n' \
    "$2" "$3" "$4" "$5" "${config:+$(basename "$config")/}config.json" > "$case/case.json"
  "$runs" testdata/interop/dump.py "$6" "$case/dump" "$text" ${config:+--config "$config"} > "$case/log" 2>&1 \
    || { cat "$case/log" >&2; return 1; }
  "$quantize" eval "$7" --text "$text" --window 512 --windows 5 "${readings[@]}" --no-cache --output json > "$case/eval.json"
  printf '%4s s  %s\n' "$SECONDS" "$1"
}

experts() { grep -q '"num_\(local_\)\?experts"' "$1/config.json"; }

# int4 NAME EXPORT RECIPE: the config files of an INT4 export
int4() {
  if [ ! -e "$2/w4a16/config.json" ]; then
    judge "$1-w4a16" "$1" "compressed-tensors W4A16" "$3" weight-only "$2" "$2"
    return
  fi
  # transformers runs experts on activations that it does not round: as W4A16 alone can they be compared.
  if ! experts "$2"; then
    judge "$1-w4a8" "$1" "compressed-tensors W4A8" "$3" exact "$2" "$2"
  fi
  judge "$1-w4a16" "$1" "compressed-tensors W4A16" "$3" weight-only "$2" "$2" "$2/w4a16"
}

# converted NAME FORMAT EXPORT RECIPE TO
converted() {
  local out=$dir/exports/$1-$5
  "$quantize" convert "$3" --to "$5" -o "$out" > /dev/null
  "$dir/plain" "$out" "$out-plain"
  judge "$1-$5" "$1" "$2" "$4" weight-only "$out" "$out-plain"
}

# export_by NAME MODEL RECIPE
export_by() {
  "$quantize" run "$2" -o "$dir/exports/$1-$3" --recipe "$3" > /dev/null
}

# fp8 NAME MODEL
fp8() {
  export_by "$1" "$2" fp8
  judge "$1-fp8" "$1" "compressed-tensors FP8 per channel" fp8 exact "$dir/exports/$1-fp8" "$dir/exports/$1-fp8"
}

"$quantize" demo -o "$dir/demo" > /dev/null
int4 demo "$dir/demo/quantized" demo
converted demo GPTQ "$dir/demo/quantized" demo gptq
converted demo AWQ "$dir/demo/quantized" demo awq
fp8 demo "$dir/demo/base"
# `run` makes no FP8 blocks: those of blocks.py go through our compressed-tensors and back.
"$python" testdata/interop/blocks.py "$dir/demo/base" "$dir/exports/blocks"
"$quantize" convert "$dir/exports/blocks" --to compressed-tensors -o "$dir/exports/blocks-compressed" > /dev/null
"$quantize" verify "$dir/exports/blocks-compressed" > /dev/null
converted demo "FP8 in blocks of 128" "$dir/exports/blocks-compressed" blocks.py fp8-block

"$python" testdata/interop/tiny.py "$dir/tiny" "$dir/demo/base"
for model in "$dir/tiny"/* "$@"; do
  name=$(basename "$model")
  export_by "$name" "$model" rtn
  int4 "$name" "$dir/exports/$name-rtn" rtn
  if ! experts "$model"; then
    fp8 "$name" "$model"
  fi
done
for model in "$@"; do
  name=$(basename "$model")
  if ! experts "$model"; then
    converted "$name" GPTQ "$dir/exports/$name-rtn" rtn gptq
    converted "$name" AWQ "$dir/exports/$name-rtn" rtn awq
  fi
done
QUANTIZE_INTEROP=$dir/cases go test -count=1 -run TestInterop -v ./kernels/
"$python" testdata/interop/collect.py "$dir/cases" testdata/results/interop.json "${names[@]}"
