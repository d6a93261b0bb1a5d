#!/bin/sh
# Compares ids with Hugging Face tokenizers on a megabyte of mixed text.
# Usage: parity.sh DIR [TEXT...]
#
# DIR receives the published tokenizers (npm) and whatever other KIND/tokenizer.json
# is there is compared too. TEXT adds files to the mixture, which otherwise
# comes from this repository. PYTHON names an interpreter with tokenizers 0.23.3;
# QUANTIZE_WIKITEXT the WikiText-2 test text of the GPTQ protocol, whose GPT-2
# tokens are then counted.
set -eu
dir=$(mkdir -p "${1:?usage: parity.sh DIR [TEXT...]}" && cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd) # absolute: to go test, a bare path is a package of the standard library
"$here/fetch.sh" "$dir"
"${PYTHON:-python3}" "$here/oracle.py" parity "$dir" "$@" \
	"$here/../../../README.md" "$here/../../../CONTRIBUTING.md" "$here"/*.py "$here"/../*.go
QUANTIZE_TOKENIZERS=$dir go test -count=1 -v -run 'Published|Wikitext' -bench Published "$here/.."
