// Package eval measures what quantization cost: perplexity, KL divergence and
// top-1 agreement of candidates against a base model on the same tokens.
//
//	text -> tokens -> windows of min(2048, trained context), the remainder dropped
//	for each chunk of windows:           (bounded memory)
//	    hidden states of base and of each candidate, one block at a time
//	    for each 256 rows: logits of base and candidates, log-softmax in float64
//	        -> NLL of the next token, KL(base || candidate), equal argmax
//
// The perplexity is that of the GPTQ protocol (docs/methods.md 0.3): the whole
// text is tokenised once, windows do not overlap, and PPL = exp(mean NLL) over
// the window-1 predicted positions of every window. The unit of the confidence
// interval is the window, since the tokens of one are correlated.
package eval
