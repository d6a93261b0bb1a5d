// Package calibrate runs text through a model and keeps statistics of what
// the linears and the attention are fed.
//
// In: text or JSONL files, a tokenizer, a model. Out: [Stats], one [SiteStats]
// per named activation (model.Site), which can be saved to one file.
//
//	tokens  = Tokens(tokenizer, files...)          documents, one after the other
//	windows = Windows(tokens, 2048, 128, seed)     a sorted sample, no overlap
//	stats   = Collect(ctx, m, windows, Options{})
//	          for each block:                      model.Stream: one in memory
//	              for each window, in order:
//	                  for each site: x (M, K)
//	                      AbsMax[k] = max |x|, Sum[k] += x, SumAbs[k] += |x|, SumSq[k] += x²
//	                      PairMax[p] = max √(x_a²+x_b²)   pairs (a, b) of queries and keys
//	                      Hessian  += xᵀx          only where asked for
//	              OnSites(sites of the block)      Hessians are dropped, or kept in Stats
//
// The site of an expert (model.Point.Of) sums the tokens that reached it; an expert
// that no token reached has no site.
//
// # Memory
//
// Beside the model's stream (two blocks, and the hidden states of all windows,
// tokens·Hidden·4 bytes) a site costs 28 bytes a channel, 30 of queries and
// keys, kept for every block; a Hessian costs 8·K² bytes, of which those of one block are held at a time
// when OnSites takes them, and a work area of 2·256·K·4 bytes plus 512·K·4.
//
// # Determinism
//
// Sums over tokens are float64 in the order of the windows, whatever the number
// of workers: channels are shared out among them, tokens are not. A Hessian is
// summed in FP32 over at most 512 tokens by the caller's product and in float64
// beyond.
//
// Sources: absmax per channel, SmoothQuant (arXiv 2211.10438); mean |x|, AWQ
// (2306.00978); Σxᵀx, GPTQ (2210.17323, eq. 2, without its factor 2); mean of K,
// SageAttention (2410.02367); radius of rotary pairs, FireQ (2505.20839).
package calibrate
