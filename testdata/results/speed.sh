#!/usr/bin/env bash
# Time the bf16 forward pass with NLL beside transformers', in one run on the same windows, and write
# testdata/results/NAME-speed.json. The perplexities beside the times show that both did the same work.
#
# usage: speed.sh MODEL_DIR NAME TEXT_FILE WINDOWS       environment: PYTHON (python3)
set -euo pipefail
cd "$(dirname "$0")/../.."
model=${1:?} name=${2:?} text=${3:?} windows=${4:?} python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -trimpath -o "$work/quantize" ./cmd/quantize
"$work/quantize" eval "$model" --text "$text" --windows "$windows" --output json > "$work/ours.json" 2> /dev/null
"$python" testdata/results/transformers_eval.py "$model" "$text" "$windows" > "$work/theirs.json" 2> /dev/null
"$work/quantize" eval "$model" --text "$text" --windows "$windows" --output json > "$work/again.json" 2> /dev/null
{ printf '{"date":"%s","commit":"%s","machine":"%s, %s cores","ours":' "$(date -u +%F)" "$(git rev-parse --short HEAD)" \
    "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" "$(nproc)"
  cat "$work/ours.json"; printf ',"again":'; cat "$work/again.json"; printf ',"transformers":'; cat "$work/theirs.json"; printf '}'
} | "$python" -m json.tool --indent 1 > "testdata/results/$name-speed.json"
