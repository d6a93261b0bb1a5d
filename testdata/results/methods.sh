#!/usr/bin/env bash
# Quantize one model by several methods and evaluate all of them against the original in one run.
#
# usage: methods.sh BINARY MODEL TEXT CALIB WINDOWS OUT.json NAME:RECIPE[:FLAGS]...
#   RECIPE is a built-in recipe or a YAML file, FLAGS further flags of `quantize run`, separated by commas.
# OUT.json holds the facts of the measurement, the result of every run, and the evaluation.
# environment: PYTHON (python3), ARITHMETIC (readings of W4A8 checkpoints; unset: all), KEEP (folder for the
# exports; exports that are there already are not made again), TITLE (of the table; else the model), JOBS (exports
# made at a time; 1), ROWS (the names alone that are measured; OUT.json keeps its other rows)
set -euo pipefail
quantize=$1 model=$2 text=$3 calib=$4 windows=$5 out=$6
shift 6
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
keep=${KEEP:-$work}
mkdir -p "$keep"

# export_by NAME RECIPE [FLAGS]
export_by() {
  [ ! -e "$keep/$1.json" ] || return 0
  # shellcheck disable=SC2086
  { TIMEFORMAT='%U %S' && time "$quantize" run "$model" -o "$keep/$1" --recipe "$2" --calib "$calib" \
    ${3//,/ } --output json > "$work/$1.json" 2>&3; } 3>&2 2> "$keep/$1.cpu"
  "$quantize" verify "$keep/$1" > /dev/null
  mv "$work/$1.json" "$keep/$1.json"
}

dirs=() jobs=()
for spec in "$@"; do
  IFS=: read -r name recipe flags <<< "$spec"
  [ -z "${ROWS-}" ] || [[ " $ROWS " == *" $name "* ]] || continue
  dirs+=("$keep/$name")
  if [ "${#jobs[@]}" -ge "${JOBS:-1}" ]; then wait "${jobs[0]}"; jobs=("${jobs[@]:1}"); fi
  export_by "$name" "$recipe" "$flags" &
  jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
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
rows = os.environ.get("ROWS", "").split()
facts = {
    "date": datetime.date.today().isoformat(), "commit": commit, "machine": f"{cpu[0]}, {os.cpu_count()} cores",
}
table = {"model": model, "text": text, "calibration": calib, **facts, "windows": base["windows"], "window": base["window"], "perplexity": base["perplexity"]}
kept = {}
if rows:
    old = json.load(open(out))
    for key in ("model", "text", "calibration", "windows", "window"):
        if old[key] != table[key]:
            sys.exit(f"{out}: its {key} is {old[key]}, not {table[key]}: measure all rows")
    if abs(old["perplexity"] / table["perplexity"] - 1) > 1e-5:
        sys.exit(f"{out}: its bf16 perplexity is {old['perplexity']}, not {table['perplexity']}: measure all rows")
    kept = {m["name"]: m for m in old.pop("methods")}
    table = old
methods = []
for spec in specs:
    name, recipe, *flags = spec.split(":")
    if rows and name not in rows:
        if name in kept:
            methods.append(kept[name])
        continue
    run = json.load(open(os.path.join(keep, name + ".json")))
    user, system = map(float, open(os.path.join(keep, name + ".cpu")).read().split())
    methods.append({
        "name": name, "recipe": os.path.basename(recipe), "flags": flags[0].replace(",", " ") if flags else "",
        "cpu_seconds": round(user + system, 1), "peak_rss_bytes": run["peak_rss_bytes"], "bytes_out": run["bytes_out"], "snr_db": run["snr_db"],
        "readings": [{k: r[k] for k in ("arithmetic", "perplexity", "ln_ppl_ratio", "kl_mean", "top1_agreement")} for r in readings if r["model"] == name],
        **({"measured": facts} if rows else {}),
    })
json.dump({**table, "methods": methods}, open(out, "w"), indent=1)
PY
