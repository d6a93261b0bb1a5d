#!/usr/bin/env bash
# Cut the texts of the demo: whole lines, 128 KiB of each of three training books for calibration,
# the first 128 KiB of the held-out book for evaluation.
#
# usage: texts.sh TEXT_DIR DEMO_DIR
set -euo pipefail
text=${1:?} demo=${2:?}
cut_lines() { head -c 131072 "$1" | sed '$d'; }
for book in melville-moby-dick twain-tom-sawyer wells-war-of-the-worlds; do
  cut_lines "$text/train/$book.txt"
done > "$demo/calibration.txt"
cut_lines "$text/eval/doyle-sherlock-holmes.txt" > "$demo/evaluation.txt"
