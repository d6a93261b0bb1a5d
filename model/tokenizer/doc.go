// Package tokenizer turns text into token ids and back, exactly as the Hugging
// Face tokenizers library does for the tokenizer.json of a checkpoint.
//
// In: tokenizer.json (and tokenizer_config.json for models that name BOS/EOS
// only there). Out: a [Tokenizer], safe for concurrent use.
//
//	text
//	 └ added tokens found in the raw text           added.go     "<|im_start|>"
//	    └ normalizer                                normalize.go NFC, "▁" for " "
//	       └ added tokens found in normalized text  added.go
//	          └ pre-tokenizer: pieces               pretokenize.go, scanner.go
//	             └ byte-pair encoding of each piece bpe.go, merge.go, cut.go
//	                └ BOS and EOS                   postprocess.go
//
// Two kinds of byte-pair encoding are read. Byte-level (Radford et al., 2019:
// GPT-2, Llama 3, Qwen, SmolLM) starts from bytes, which the file spells as
// printable characters; the text is cut into words by a regular expression.
// SentencePiece style (Kudo and Richardson, arXiv:1808.06226: Llama 2, Mistral)
// starts from characters, falls back to <0xNN> byte tokens and has no words at
// all: a whole document is one piece, so merging must not be quadratic.
//
// # Speed
//
// The well-known patterns are recognised by their exact text and run by
// hand-made scanners; any other pattern runs in regexp2. A short piece is
// merged by a scan for the best pair, a long one with a heap in O(n log n). A
// SentencePiece document is first cut at every place no merge can cross (see
// cut.go), which leaves the result unchanged and lets the word cache work.
//
// # What is refused
//
// Unigram, WordPiece, dropout, unknown normalizers and whatever else is not
// implemented fails in [Load] with [ErrUnsupported] and the name of the
// feature. Unknown keys are refused too: a key this package does not know could
// change ids. "truncation" and "padding" are the exception, they concern
// batches and are ignored, as transformers does unless asked otherwise.
//
// A character without any token is an error of [Tokenizer.Encode] if the model
// has no unknown token either; the reference drops it silently.
package tokenizer
