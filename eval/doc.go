// Package eval measures what quantization cost: perplexity, and against a base
// model KL divergence, top-1 agreement and a paired confidence interval.
//
// In come models (weights already under the arithmetic of the runtime that is
// meant) and the tokens of a text; out goes a [Report] for each model.
//
//	tokens ─ windows ─┬─ base.Stream ──────┐ hidden states of a chunk of windows
//	                  └─ candidate.Stream ─┤
//	                                       ▼
//	      256 rows at a time: head -> logits -> NLL, argmax | KL(base || candidate)
//
// Several texts share the pass: their windows go through each block together.
// [Cache] keeps the base's hidden states, so that a later run has its logits for
// the head's price alone.
//
// [Gate] compares reports with the budgets of package recipe, by number or from a
// baseline; gatereport.go and junit.go write the verdicts.
//
// # Protocol
//
// The GPTQ protocol (Frantar et al. 2022, arXiv 2210.17323; docs/methods.md 0.3):
// the text is tokenised whole, with BOS if the tokenizer adds one, cut into
// non-overlapping windows of min(2048, trained context) tokens, the remainder
// dropped. Each window is run alone; its NLL is the mean over its window-1 next
// tokens, and
//
//	perplexity = exp(mean over windows of that mean)
//
// The intervals are Student's t and bootstrap-t over windows, since the tokens of
// one depend on each other (paired.go); below [MinWindows] there is none.
//
// # Arithmetic
//
// Logits are FP32. The softmax is summed in float64; its exponentials come from
// a polynomial with a relative error below 1e-11 (exp.go), so NLL and KL are
// those of a float64 log-softmax to ten digits. Eight partial sums, unfused, make
// the vectors of AVX2 and plain Go give the same bits.
//
// # Memory
//
// Two decoder blocks of one model, of which one is being loaded, the heads (equal
// heads once), twice 256 rows of logits, and the hidden states of a chunk of
// windows for every model, models x tokens x Hidden x 4 bytes:
// [Options.HiddenBytes] bounds the last.
//
// # Determinism
//
// A row is reduced by one goroutine, each partial sum in the order of the
// columns, rows are added in their order: results do not depend on workers, on
// the chunk or on the instruction set beyond the logits.
package eval

//go:generate go run -C gen . ..
