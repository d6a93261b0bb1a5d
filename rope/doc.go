// Package rope scales queries and keys round the rotary embedding, so that the
// outliers of cached keys move into the queries, which keep more bits.
//
// In: calibrate.SiteStats of queries and keys of one layer. Out: one vector of
// factors of keys (KVHeads*HeadDim) a layer; query head h is divided by those of
// KV head h/(Heads/KVHeads).
//
//	before rotation, folded into weights          after it, at run time
//	PreScales              alpha / largest radius     PostScales   beta / largest magnitude
//	SmoothAttentionScales  (queries^β / keys^α)                    of top_k channels a head
//	        │                                             │
//	   [Pre], a model.Transform                      packer.Sidecar, the cache
//
// A factor that both members of a rotary pair share commutes with the rotation,
//
//	R(θ) diag(s, s) = diag(s, s) R(θ)
//
// and folds into rows of k and q, or, where a norm of every head stands between
// (QK-norm), into the weights of that norm. Factors that differ within a pair have
// to be applied after the rotation.
//
// Sources: FireQ (arXiv 2505.20839) and its code; SmoothAttention of QServe (arXiv
// 2405.04532, section 4.2) and its code; docs/methods.md 1.9, 1.10, 4.4.
package rope
