#!/usr/bin/env bash
# Measure the tables of docs/accuracy.md: the embedded model, and SmolLM2 and Qwen where their directories are given.
#
# usage: methods-all.sh [SMOLLM2_DIR TEXT_FILE CALIB_FILE [QWEN_DIR]]
# environment: as methods.sh; TABLES (default: all of demo w4a16 w4a8 w4a8kv4 qwen qwenkv4); KEEP, one folder per table in it;
# QUANTIZE, a binary to use instead of building one (where there is no Go; COMMIT says then what it was built from)
set -euo pipefail
cd "$(dirname "$0")/../.."
smollm2=${1-} text=${2-} calib=${3-} qwen=${4-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
keep=${KEEP:-$work}
results=testdata/results
if [ -n "${QUANTIZE-}" ]; then cp "$QUANTIZE" "$work/quantize"; else go build -trimpath -o "$work/quantize" ./cmd/quantize; fi

wanted() { [[ " ${TABLES:-demo w4a16 w4a8 w4a8kv4 qwen qwenkv4} " == *" $1 "* ]]; }

if wanted demo; then
  "$work/quantize" demo -o "$work/demo" > /dev/null
  mine=$results/recipes
  TITLE="Embedded demo model" ARITHMETIC=lut KEEP=$keep/demo $results/methods.sh "$work/quantize" "$work/demo/base" \
    "$work/demo/evaluation.txt" "$work/demo/calibration.txt" 40 $results/methods-demo.json \
    rtn-plain:rtn-plain rtn-weighted:rtn-weighted gptq:gptq "gptq-full:$mine/gptq-full.yaml" best-tied:best-tied best:best \
    "rtn-plain-kv4:$mine/rtn-plain-kv4.yaml" "best-no-rope-kv4:$mine/best-no-rope.yaml:--kv,int4" best-kv4:best:--kv,int4
fi

# table NAME TITLE MODEL WINDOWS SPEC...: one table of a real model.
table() {
  local name=$1 title=$2 model=$3 windows=$4
  shift 4
  TITLE=$title KEEP=$keep/$name $results/methods.sh "$work/quantize" "$model" "$text" "$calib" "$windows" "$results/methods-$name.json" "$@"
}

# Groups of 128: one export is W4A8 and W4A16.
qwen() { table "$1" "Qwen2.5-Coder-0.5B-Instruct, $2" "$qwen" 6 "${@:3}"; }
if [ -n "$qwen" ]; then
  if wanted qwen; then
    ARITHMETIC=lut,weight-only qwen qwen "W4A8 and the W4A16 over the same tensors" rtn:rtn awq:awq gptq:gptq best:best
  fi
  if wanted qwenkv4; then
    ARITHMETIC=lut qwen qwen-kv4 "W4A8, keys and values in INT4" rtn-kv4:rtn:--kv,int4 gptq-kv4:gptq:--kv,int4 best-kv4:best:--kv,int4
  fi
fi
[ -n "$smollm2" ] || exit 0

smollm2() { table "smollm2-$1" "SmolLM2-135M-Instruct, $2" "$smollm2" 60 "${@:3}"; }

# Its 576 input features make groups of 64, for which built-in recipes give W4A16.
if wanted w4a16; then
  smollm2 w4a16 "W4A16 as built-in recipes give it, and FP8" \
    rtn:rtn awq:awq fireq:fireq:--kv,none gptq:gptq best:best fp8:fp8 fp8-gptq:gptq:--scheme,FP8_DYNAMIC
fi
# With groups of 64 by hand config.json says W4A8, which transformers and this program compute and vLLM does not.
for recipe in rtn awq fireq sage gptq best; do
  "$work/quantize" recipe show $recipe | sed 's/group_size: auto/group_size: 64/' > "$work/$recipe.yaml"
done
if wanted w4a8; then
  ARITHMETIC=lut smollm2 w4a8 "W4A8 with group_size 64 by hand" \
    "rtn:$work/rtn.yaml" "awq:$work/awq.yaml" "fireq:$work/fireq.yaml:--kv,none" "gptq:$work/gptq.yaml" "best:$work/best.yaml"
fi
if wanted w4a8kv4; then
  ARITHMETIC=lut smollm2 w4a8kv4 "W4A8 with group_size 64 by hand, keys and values in INT4" \
    "rtn:$work/rtn.yaml:--kv,int4" "sage:$work/sage.yaml" "fireq:$work/fireq.yaml" "gptq:$work/gptq.yaml:--kv,int4" "best:$work/best.yaml:--kv,int4"
fi
