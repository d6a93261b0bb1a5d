#!/usr/bin/env bash
# Measure what the README's table shows and write it to testdata/results/NAME.json.
#
# usage: run.sh SMOLLM2_DIR QWEN_DIR TEXT_FILE       environment: PYTHON (python3), WINDOWS (20),
# SPEED_WINDOWS (4)
# An empty directory argument leaves that model's figures as they are. Per model: `quantize run` by
# recipe rtn, `quantize eval` of every reading against the original on the first WINDOWS windows of TEXT_FILE,
# and speed.sh on the original.
set -euo pipefail
cd "$(dirname "$0")/../.."
smollm2=${1-} qwen=${2-} text=${3-} python=${PYTHON:-python3} windows=${WINDOWS:-20}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -trimpath -o "$work/quantize" ./cmd/quantize

# facts NAME: who measured, where and when
facts() {
  printf '"name":"%s","date":"%s","commit":"%s","machine":"%s, %s cores","windows":%s,' "$1" "$(date -u +%F)" \
    "$(git rev-parse --short HEAD)" "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" "$(nproc)" "$windows"
}

# model DIR FILE NAME
model() {
  [ -n "$1" ] || return 0
  local out=$work/$2
  "$work/quantize" run "$1" -o "$out" --output json > "$work/run.json"
  "$work/quantize" verify "$out" > /dev/null
  local readings=()
  [ -e "$out/w4a16/config.json" ] && readings=(--arithmetic lut,exact,weight-only)
  "$work/quantize" eval "$out" --base "$1" --text "$text" --windows "$windows" "${readings[@]}" --output json > "$work/eval.json"
  testdata/results/speed.sh "$1" "$2" "$text" "${SPEED_WINDOWS:-4}"
  { printf '{'; facts "$3"
    printf '"command":"quantize run; quantize eval --base --windows %s on %s","run":' "$windows" "$(basename "$text")"; cat "$work/run.json"
    printf ',"eval":'; cat "$work/eval.json"
    printf '}'
  } | "$python" -m json.tool --indent 1 > "testdata/results/$2.json"
}

"$work/quantize" demo -o "$work/demo" --output json > "$work/demo.json"
{ printf '{'; facts "embedded demo model" | sed 's/"windows":[0-9]*,/"windows":40,/'
  printf '"command":"quantize demo","demo":'; cat "$work/demo.json"; printf '}'
} | "$python" -m json.tool --indent 1 | sed "s#$work/##" > testdata/results/demo.json
model "$smollm2" smollm2 SmolLM2-135M-Instruct
model "$qwen" qwen Qwen2.5-Coder-0.5B-Instruct
sed -i "s#$work/##g" testdata/results/*.json
