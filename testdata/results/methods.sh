#!/usr/bin/env bash
# Quantize one model by several methods and evaluate all of them against the original in one run.
#
# usage: methods.sh BINARY MODEL TEXT CALIB WINDOWS OUT.json NAME:RECIPE[:FLAGS]...
#   RECIPE is a built-in recipe or a YAML file, FLAGS further flags of `quantize run`, separated by commas.
# OUT.json holds the facts of the measurement, the result of every run, and the evaluation.
# environment: PYTHON (python3), ARITHMETIC (readings of W4A8 checkpoints; unset: all), KEEP (folder for the
# exports; exports that are there already are not made again), TITLE (of the table; else the model)
set -euo pipefail
quantize=$1 model=$2 text=$3 calib=$4 windows=$5 out=$6
shift 6
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
keep=${KEEP:-$work}
mkdir -p "$keep"
dirs=()
for spec in "$@"; do
  IFS=: read -r name recipe flags <<< "$spec"
  if [ ! -e "$keep/$name.json" ]; then
    # shellcheck disable=SC2086
    { TIMEFORMAT='%U %S' && time "$quantize" run "$model" -o "$keep/$name" --recipe "$recipe" --calib "$calib" \
      ${flags//,/ } --output json > "$work/run.json" 2>&3; } 3>&2 2> "$keep/$name.cpu"
    "$quantize" verify "$keep/$name" > /dev/null
    mv "$work/run.json" "$keep/$name.json"
  fi
  dirs+=("$keep/$name")
done
"$quantize" eval "${dirs[@]}" --base "$model" --text "$text" --windows "$windows" \
  ${ARITHMETIC:+--arithmetic "$ARITHMETIC"} --output json > "$work/eval.json"
commit=${COMMIT:-$(git rev-parse --short HEAD)}
"$python" - "$out" "$keep" "$work/eval.json" "$commit" "${TITLE:-$(basename "$model")}" "$(basename "$text")" "$(basename "$calib")" "$@" <<'PY'
import datetime, json, os, sys
out, keep, evaluation, commit, model, text, calib, *specs = sys.argv[1:]
result = json.load(open(evaluation))
readings = result.get("readings") or [result]
cpu = [l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")]
base = readings[0]["base"]
methods = []
for spec in specs:
    name, recipe, *flags = spec.split(":")
    run = json.load(open(os.path.join(keep, name + ".json")))
    user, system = map(float, open(os.path.join(keep, name + ".cpu")).read().split())
    methods.append({
        "name": name, "recipe": os.path.basename(recipe), "flags": flags[0].replace(",", " ") if flags else "",
        "cpu_seconds": round(user + system, 1), "peak_rss_bytes": run["peak_rss_bytes"], "bytes_out": run["bytes_out"], "snr_db": run["snr_db"],
        "readings": [{k: r[k] for k in ("arithmetic", "perplexity", "ln_ppl_ratio", "kl_mean", "top1_agreement")} for r in readings if r["model"] == name],
    })
json.dump({
    "model": model, "text": text, "calibration": calib, "date": datetime.date.today().isoformat(), "commit": commit,
    "machine": f"{cpu[0]}, {os.cpu_count()} cores", "windows": base["windows"], "window": base["window"],
    "perplexity": base["perplexity"], "methods": methods,
}, open(out, "w"), indent=1)
PY
