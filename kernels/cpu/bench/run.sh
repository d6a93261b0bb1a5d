#!/bin/sh
# Times our FP32 product beside gonum's and OpenBLAS's cblas_sgemm at the same
# shapes: both check their results first, then run in turns, and the best of
# ROUNDS rounds counts. Needs cc and OpenBLAS with its header.
#
#   kernels/cpu/bench/run.sh            THREADS=2 ROUNDS=5 REPS=5
set -eu
here=$(cd "$(dirname "$0")" && pwd)
threads=${THREADS:-2} rounds=${ROUNDS:-5} reps=${REPS:-5}
shapes="1024x1024x1024 2048x896x4864 2048x4864x896 2048x576x1536 2048x1536x576"
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # the competitor chooses for itself

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O2 "$here/openblas.c" -o "$work/openblas" $(pkg-config --cflags --libs openblas 2>/dev/null || echo -lopenblas) -lm
${CC:-cc} -O3 -mavx2 -mfma "$here/peak.c" -o "$work/peak" 2>/dev/null || true
(cd "$here/.." && go test -c -o "$work/ours" .)

round=0
while [ "$round" -lt "$rounds" ]; do
  round=$((round + 1))
  for shape in $shapes; do
    OPENBLAS_NUM_THREADS=$threads "$work/openblas" "$reps" "$shape" | awk '{ print $1 "x" $2 "x" $3, "openblas", $4 }'
    for who in ours gonum; do
      count=$reps
      if [ "$who" = gonum ]; then count=1; fi
      GOMAXPROCS=$threads "$work/ours" -test.run '^$' -test.bench "^BenchmarkLinear\$/^$shape\$/^$who\$" \
        -test.benchtime "${count}x" |
        awk -v shape="$shape" -v who="$who" '/GFLOP/ { for (i = 2; i <= NF; i++) if ($i == "GFLOP/s") print shape, who, $(i - 1) }'
    done
  done
done >"$work/all"

peak=$([ -x "$work/peak" ] && "$work/peak" || echo 0)
awk -v shapes="$shapes" -v peak="$peak" -v threads="$threads" '
  $3 > best[$1, $2] { best[$1, $2] = $3 }
  END {
    printf "GFLOP/s on %d threads, the best of all rounds; multiply-add peak of a core now: %s (AVX2)\n", threads, peak
    printf "%-16s %9s %9s %9s %14s\n", "M x K x N", "ours", "openblas", "gonum", "ours/openblas"
    n = split(shapes, s, " ")
    for (i = 1; i <= n; i++)
      printf "%-16s %9.1f %9.1f %9.1f %14.2f\n", s[i], best[s[i], "ours"], best[s[i], "openblas"], best[s[i], "gonum"],
        best[s[i], "ours"] / best[s[i], "openblas"]
  }' "$work/all"
