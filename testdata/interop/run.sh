#!/usr/bin/env bash
# Judge our exports by transformers: they load without a missing, unexpected or newly initialised key,
# every linear agrees with ours on the same input, and so do the logits.
#
# usage: run.sh DIR [MODEL...]
#   DIR     receives the virtual environment (venv), the exports and the dumps
#   MODEL   further Hugging Face directories to export beside the demo model and two mixtures of experts
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${1:?directory} && shift
mkdir -p "$dir"
text=cmd/quantize/demo/evaluation.txt
python=${PYTHON:-$dir/venv/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv "$dir/venv"
  "$python" -m pip install -q torch==2.11.0 transformers==5.17.0 compressed-tensors==0.19.0
fi
go build -o "$dir/quantize" ./cmd/quantize
rm -rf "$dir/demo" "$dir/cases"
"$dir/quantize" demo -o "$dir/demo" > /dev/null
cases=("$dir/demo/quantized")
rm -rf "$dir/experts"
"$python" testdata/interop/experts.py "$dir/experts" "$dir/demo/base"
for model in "$dir/experts"/* "$@"; do
  out=$dir/exports/$(basename "$model")
  rm -rf "$out"
  "$dir/quantize" run "$model" -o "$out" > /dev/null
  cases+=("$out")
done
for checkpoint in "${cases[@]}"; do
  name=$(basename "$(dirname "$checkpoint")")-$(basename "$checkpoint")
  mkdir -p "$dir/cases/$name"
  ln -sfn "$(realpath "$checkpoint")" "$dir/cases/$name/checkpoint"
  # transformers runs experts on activations that it does not round: as W4A16 alone can they be compared.
  if ! grep -q '"num_\(local_\)\?experts"' "$checkpoint/config.json"; then
    "$python" testdata/interop/dump.py "$checkpoint" "$dir/cases/$name/dump" "$text"
  fi
  if [ -e "$checkpoint/w4a16/config.json" ]; then
    "$python" testdata/interop/dump.py "$checkpoint" "$dir/cases/$name/dump-w4a16" "$text" --config "$checkpoint/w4a16"
  fi
done
QUANTIZE_INTEROP=$(realpath "$dir/cases") go test -count=1 -run TestInterop -v ./kernels/
