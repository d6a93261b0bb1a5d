#!/usr/bin/env bash
# Measure the tables of docs/accuracy.md: the embedded model, and SmolLM2 where its directory is given.
#
# usage: methods-all.sh SMOLLM2_DIR TEXT_FILE CALIB_FILE       environment: as methods.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
smollm2=${1-} text=${2-} calib=${3-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -trimpath -o "$work/quantize" ./cmd/quantize
"$work/quantize" demo -o "$work/demo" > /dev/null
mine=testdata/results/recipes
ARITHMETIC=lut testdata/results/methods.sh "$work/quantize" "$work/demo/base" "$work/demo/evaluation.txt" "$work/demo/calibration.txt" 40 \
  testdata/results/methods-demo.json rtn-plain:rtn-plain rtn-weighted:rtn-weighted gptq:gptq "gptq-full:$mine/gptq-full.yaml" best-tied:best-tied best:best \
  "rtn-plain-kv4:$mine/rtn-plain-kv4.yaml" "best-no-rope-kv4:$mine/best-no-rope.yaml:--kv,int4" best-kv4:best:--kv,int4
sed -i 's/"model": "base"/"model": "embedded demo model"/' testdata/results/methods-demo.json
[ -n "$smollm2" ] || exit 0
for recipe in gptq best; do # groups of 64, which SmolLM2 needs, and yet W4A8 in config.json
  "$work/quantize" recipe show $recipe | sed 's/group_size: auto/group_size: 64/' > "$work/$recipe.yaml"
done
testdata/results/methods.sh "$work/quantize" "$smollm2" "$text" "$calib" 60 testdata/results/methods-smollm2.json \
  "best:$work/best.yaml" "gptq:$work/gptq.yaml"
