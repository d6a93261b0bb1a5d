#!/usr/bin/env bash
# Make the embedded demo model and its texts from scratch.
#
# usage: make.sh TEXT_DIR DEMO_DIR      needs: one GPU, python3 with torch, tokenizers, safetensors
#   TEXT_DIR  has train/*.txt and eval/doyle-sherlock-holmes.txt (public-domain books)
#   DEMO_DIR  receives model/, calibration.txt and evaluation.txt (cmd/quantize/demo)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
text=${1:?directory with train/ and eval/} demo=${2:?output directory}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$here/train.py" "$text" "$work"
python3 "$here/outliers.py" "$work" "$demo/model"
"$here/texts.sh" "$text" "$demo"
