package kernels

import "quantize/tensor"

// Attender computes attention of queries over keys and values. It is the general
// form of model.Compute's Attend: several sequences, fewer or more queries than keys,
// block-sparse masks, operands in fewer bits, and the logarithm of the denominator.
type Attender interface {
	// Attention computes, for query i of sequence b, head h, and KV head
	// g = h/(Heads/KVHeads), over the keys j that a lets the query see,
	//
	//	s[j]   = a.Scale·Σ_c q[i,h,c]·k[j,g,c]
	//	lse    = ln Σ_j exp(s[j])
	//	dst[c] = Σ_j exp(s[j] - lse)·v[j,g,c]
	//
	// up to the roundings of a.Format. A query that sees no key gets dst 0 and lse -Inf.
	//
	//	q, dst   (Batch·Queries, Heads·HeadDim)    row b·Queries + i, column h·HeadDim + c
	//	k, v     (Batch·Keys, KVHeads·HeadDim)     row b·Keys + j, column g·HeadDim + c
	//	lse      (Batch·Queries, Heads)            natural logarithm; the zero Matrix: not wanted
	//
	// all FP32 with rotary embedding applied. Nothing may alias; inputs are left as they
	// are. Errors are those of [Attention.Check], and ErrUnsupported for a format or shape
	// that the implementation lacks.
	Attention(dst, lse, q, k, v tensor.Matrix, a Attention) error
}

// Attention says what one call computes.
type Attention struct {
	Batch                   int // sequences, all of the same lengths
	Heads, KVHeads, HeadDim int // KVHeads divides Heads
	Queries, Keys           int // tokens of a sequence

	Scale float32 // multiplies q·k, usually 1/sqrt(HeadDim)
	// Causal aligns the last query with the last key: query i sees the keys
	// j <= i + Keys - Queries. With more queries than keys the first see none.
	Causal bool
	// Window, where it is not 0, hides all but the last Window of the keys that a causal
	// query sees.
	Window int
	// Mask hides blocks of keys from blocks of queries beyond that; nil hides none.
	Mask *BlockMask

	Format AttentionFormat
	// KV are the stored numbers of a layer's cache, where Format.KV has one.
	KV KVParams
}

// BlockMask is a block-sparse mask (Dao et al., FlashAttention, arXiv 2205.14135,
// algorithm 5): block (I, J) of a head's scores is computed where Keep has it, and is
// neither read nor computed where it has not.
type BlockMask struct {
	QueryBlock, KeyBlock int // tokens
	// Keep is (Batch, Heads, ⌈Queries/QueryBlock⌉, ⌈Keys/KeyBlock⌉).
	Keep []bool
}

// KVParams are the parts of a packer.Sidecar that one layer's attention reads, in the
// sidecar's units. An empty slice stands for ones (scales) or zeros (means).
type KVParams struct {
	KeyScales            []float32 // κ (KVHeads·HeadDim): multiply keys, divide queries
	KeyMeans, ValueMeans []float32 // (KVHeads·HeadDim), taken off before rounding
	KScale, VScale       float32   // of an FP8 cache
}

// KeyRange returns the keys [from, to) that query i of any sequence sees before a mask;
// from == to where it sees none. Both grow with i.
func (a *Attention) KeyRange(i int) (from, to int) {
	if !a.Causal {
		return 0, a.Keys
	}
	to = min(max(i+1+a.Keys-a.Queries, 0), a.Keys)
	if a.Window > 0 {
		from = max(to-a.Window, 0)
	}
	return from, to
}

// Sees reports whether query i of head h of sequence b sees key j.
func (a *Attention) Sees(b, h, i, j int) bool {
	from, to := a.KeyRange(i)
	return from <= j && j < to && (a.Mask == nil || a.keeps(b, h, i/a.Mask.QueryBlock, j/a.Mask.KeyBlock))
}

// Touches reports whether the tile of the queries [i, iEnd) and the keys [j, jEnd),
// none of them empty, may hold a score that is needed. Where it is false the tile can
// be skipped: no query of it sees a key of it.
func (a *Attention) Touches(b, h, i, iEnd, j, jEnd int) bool {
	// The ranges of consecutive queries overlap or adjoin, so their union is a range.
	from, _ := a.KeyRange(i)
	_, to := a.KeyRange(iEnd - 1)
	if jEnd <= from || to <= j {
		return false
	}
	if a.Mask == nil {
		return true
	}
	for row := i / a.Mask.QueryBlock; row*a.Mask.QueryBlock < iEnd; row++ {
		for col := j / a.Mask.KeyBlock; col*a.Mask.KeyBlock < jEnd; col++ {
			if a.keeps(b, h, row, col) {
				return true
			}
		}
	}
	return false
}

func (a *Attention) keeps(b, h, row, col int) bool {
	rows, cols := ceilDiv(a.Queries, a.Mask.QueryBlock), ceilDiv(a.Keys, a.Mask.KeyBlock)
	return a.Mask.Keep[((b*a.Heads+h)*rows+row)*cols+col]
}

func ceilDiv(n, d int) int { return (n + d - 1) / d }
