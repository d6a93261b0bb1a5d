//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"quantize/internal/fault"
	"quantize/kernels"
)

// KVCache is an INT4 cache of keys and values on the card: Records lie as
// [Batch][KVHeads][Capacity] ([KVLayout]).
type KVCache struct {
	KVLayout
	Batch, KVHeads int
	Capacity       int // records of a sequence and head, of 64 tokens
	Records        Memory
}

// NewKVCache allocates room for `tokens` tokens of each sequence, with undefined
// contents.
func (s *Session) NewKVCache(l KVLayout, batch, kvHeads, tokens int) (*KVCache, error) {
	c := &KVCache{KVLayout: l, Batch: batch, KVHeads: kvHeads, Capacity: max(1, ceilDiv(tokens, kvBlock))}
	if !l.valid() {
		return nil, &fault.Error{
			Err: kernels.ErrUnsupported, Where: "INT4 cache", Found: fmt.Sprintf("heads of %d channels in groups of %d", l.HeadDim, l.Group),
			Wanted: "64 or 128 channels in groups of 32, 64 or all",
		}
	}
	var err error
	c.Records, err = s.Alloc(batch * kvHeads * c.Capacity * l.RecordBytes())
	return c, err
}

// Free gives the memory back.
func (c *KVCache) Free(s *Session) error { return s.Free(c.Records) }

// KVSmoothing are what queries, keys and values of a layer are cached without,
// float32 (KVHeads, HeadDim) each; the zero Memory for none.
type KVSmoothing struct{ KeyScale, KeyMean, ValueMean Memory }

// NewKV are keys and values of Tokens new tokens of every sequence, (Batch, Tokens,
// KVHeads, HeadDim), BF16 or FP32.
type NewKV struct {
	K, V   Memory
	BF16   bool
	Tokens int
	Starts Memory // int32 (Batch): tokens in the cache before these; what is beyond the capacity is dropped
	// Cosines and Sines, float32 (positions, HeadDim/2), turn the keys; the zero Memory
	// where they have been turned. Positions, int32 (Batch, Tokens), are rows of the tables; the
	// zero Memory stands for the places in the cache.
	Cosines, Sines, Positions Memory
	Interleaved               bool // pairs are neighbours, not halves
	KVSmoothing
}

// appendArgument is struct Append of kvappend.cu.
type appendArgument struct {
	K, V, Cache, Starts, Positions   uint64
	Cosines, Sines                   uint64
	KeyScale, KeyMean, ValueMean     uint64
	Batch, Tokens, KVHeads, Capacity int32
	BF16, Interleaved                int32
}

// AppendKV writes new tokens into c: ref.Rotate, ref.Smooth and ref.EncodeCached are
// its twins, equal to the bit.
func (s *Session) AppendKV(c *KVCache, in NewKV, dependent bool) error {
	items := c.Batch * in.Tokens * c.KVHeads
	if items == 0 {
		return nil
	}
	argument := &appendArgument{
		K: in.K.Address, V: in.V.Address, Cache: c.Records.Address, Starts: in.Starts.Address, Positions: in.Positions.Address,
		Cosines: in.Cosines.Address, Sines: in.Sines.Address,
		KeyScale: in.KeyScale.Address, KeyMean: in.KeyMean.Address, ValueMean: in.ValueMean.Address,
		Batch: int32(c.Batch), Tokens: int32(in.Tokens), KVHeads: int32(c.KVHeads), Capacity: int32(c.Capacity),
		BF16: flag(in.BF16), Interleaved: flag(in.Interleaved),
	}
	l := Launch{Grid: Dim{X: ceilDiv(items, 4)}, Threads: 128, Dependent: dependent}
	return launch(s, "kvappend_"+c.String(), l, argument, fmt.Sprintf("%d tokens of %d sequences", in.Tokens, c.Batch))
}

// KVScratch is what blocks that share a sequence leave for each other. It may be
// used by one launch after the other, not by two at a time.
type KVScratch struct {
	partial, tickets Memory
	splits           int
}

// NewKVScratch allocates scratch memory for decoding over c with `queries` query
// heads a KV head.
func (s *Session) NewKVScratch(c *KVCache, queries int) (*KVScratch, error) {
	pairs := c.Batch * c.KVHeads
	splits := min(kvMaxSplits, ceilDiv(c.Capacity, kvWarps))
	x := &KVScratch{splits: splits}
	var err error
	if x.partial, err = s.Alloc(4 * pairs * splits * queries * (c.HeadDim + 2)); err != nil {
		return nil, err
	}
	if x.tickets, err = s.Alloc(4 * pairs); err != nil {
		return nil, errors.Join(err, x.Free(s))
	}
	return x, s.Fill(x.tickets, 0)
}

// Free gives the memory back.
func (x *KVScratch) Free(s *Session) error {
	return errors.Join(s.Free(x.partial), s.Free(x.tickets))
}

// KVQueries are one query token of every sequence.
type KVQueries struct {
	Q          Memory // (Batch, KVHeads·Queries, HeadDim), BF16 or FP32
	BF16       bool
	Queries    int    // heads that share a KV head, 1..8
	Lengths    Memory // int32 (Batch): tokens of the cache that are attended to
	Longest    int    // no length is above it
	Scale      float32
	FP8Queries bool // round them to E4M3, one scale a head
	KVSmoothing
	Out     Memory // (Batch, KVHeads·Queries, HeadDim), BF16 or FP32
	OutBF16 bool
	LSE     Memory // float32 (Batch, KVHeads·Queries): the natural logarithm of the sum of exp(scores); -Inf without tokens, where Out is 0
	Scratch *KVScratch
	Chunk   int // records of a block, 0 to choose
}

// decodeArgument is struct Decode of kvdecode.cu.
type decodeArgument struct {
	Q, Cache, Lengths, KeyScale, KeyMean, ValueMean, Out, LSE, Partial, Tickets uint64
	Scale                                                                       float32
	KVHeads, Queries, Capacity, Chunk, Stages                                   int32
	BF16, OutBF16, FP8Queries                                                   int32
	_                                                                           int32
}

// DecodeKV attends to the cached tokens (ref.DecodeAttend is the twin). The result
// has the same bits in every launch with the same lengths and Longest.
func (s *Session) DecodeKV(c *KVCache, q KVQueries, dependent bool) error {
	pairs := c.Batch * c.KVHeads
	where := fmt.Sprintf("%d sequences of at most %d tokens, %d x %d heads", c.Batch, q.Longest, c.KVHeads, q.Queries)
	switch {
	case q.Queries < 1 || q.Queries > 8:
		return &fault.Error{Err: kernels.ErrUnsupported, Where: where, Found: fmt.Sprintf("%d query heads a KV head", q.Queries), Wanted: "1 to 8"}
	case q.Longest > c.Capacity*kvBlock:
		panic("cuda: more tokens than the cache holds")
	case pairs == 0:
		return nil
	}
	records := ceilDiv(q.Longest, kvBlock)
	chunk := q.Chunk
	if chunk == 0 {
		chunk = kvChunk(s.properties.Processors, pairs, records)
	}
	splits := max(1, ceilDiv(records, chunk))
	x := q.Scratch
	if splits > x.splits || 4*pairs*splits*q.Queries*(c.HeadDim+2) > x.partial.Bytes || 4*pairs > x.tickets.Bytes {
		panic("cuda: scratch memory is of a smaller cache")
	}
	argument := &decodeArgument{
		Q: q.Q.Address, Cache: c.Records.Address, Lengths: q.Lengths.Address,
		KeyScale: q.KeyScale.Address, KeyMean: q.KeyMean.Address, ValueMean: q.ValueMean.Address,
		Out: q.Out.Address, LSE: q.LSE.Address, Partial: q.Scratch.partial.Address, Tickets: q.Scratch.tickets.Address,
		Scale: q.Scale, KVHeads: int32(c.KVHeads), Queries: int32(q.Queries), Capacity: int32(c.Capacity),
		Chunk: int32(chunk), Stages: int32(c.kvStages()), BF16: flag(q.BF16), OutBF16: flag(q.OutBF16), FP8Queries: flag(q.FP8Queries),
	}
	l := Launch{Grid: Dim{X: pairs, Y: splits}, Threads: 32 * kvWarps, SharedBytes: c.kvStages() * kvWarps * c.RecordBytes(), Dependent: dependent}
	return launch(s, "kvdecode_"+c.String(), l, argument, where)
}

// flag is what a kernel's int takes for a bool.
func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}
