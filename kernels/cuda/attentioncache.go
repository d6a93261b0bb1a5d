//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"quantize/kernels"
	"quantize/tensor"
)

const (
	cachedGroups = 2 // warpgroups of a block that multiply; a third expands codes
	cachedStages = 2 // tiles that are expanded, and tiles whose records are on their way
)

// CachedQueries are Queries tokens of every sequence, the last ones of the cache's where
// Causal.
type CachedQueries struct {
	Q              Memory // BF16 (Batch, Queries, Heads, HeadDim), rounded to E4M3 by token and head
	Heads, Queries int
	Tokens         int // of every sequence in the cache
	Causal         bool
	Window         int
	Scale          float32
	KVSmoothing
	O   Memory // BF16 (Batch, Queries, Heads, HeadDim)
	LSE Memory // float32 (Batch, Queries, Heads), or the zero Memory
}

// AttendCached is prefill attention over an INT4 cache with FP8 queries, FireQ's (arXiv
// 2505.20839): codes are expanded to E4M3 in shared memory and multiplied there. Its twin is
// ref.RoundAttention with Format.KV, for queries, keys and values that are finite. Every
// launch gives the same bits.
func (s *Session) AttendCached(c *KVCache, in CachedQueries, dependent bool) error {
	where := fmt.Sprintf("%d x (%d queries, %d tokens), %d heads on %d of %d channels", c.Batch, in.Queries, in.Tokens, in.Heads, c.KVHeads, c.HeadDim)
	if bytes := 2 * c.Batch * in.Queries * in.Heads * c.HeadDim; in.Q.Bytes < bytes || in.O.Bytes < bytes {
		panic("cuda: queries or output are not (Batch, Queries, Heads, HeadDim)")
	}
	if in.LSE.Address != 0 && in.LSE.Bytes < 4*c.Batch*in.Queries*in.Heads {
		panic("cuda: lse is not (Batch, Queries, Heads)")
	}
	if in.Tokens > c.Capacity*kvBlock {
		panic("cuda: more tokens than the cache has room for")
	}
	if in.Heads%c.KVHeads != 0 {
		panic("cuda: query heads do not share KV heads evenly")
	}
	items := prefillItems(in.Queries, in.Heads/c.KVHeads, cachedGroups) * c.Batch * c.KVHeads
	if items == 0 {
		return nil
	}
	argument := &prefillArgument{
		Q: in.Q.Address, K: c.Records.Address, KMean: in.KeyMean.Address, VMean: in.ValueMean.Address, O: in.O.Address, LSE: in.LSE.Address,
		Batch: int32(c.Batch), Heads: int32(in.Heads), KVHeads: int32(c.KVHeads), Queries: int32(in.Queries), Keys: int32(in.Tokens),
		Tiles: int32(ceilDiv(in.Tokens, attentionKeys)), Window: int32(in.Window), Causal: flag(in.Causal),
		Sharing: int32(in.Heads / c.KVHeads), Chunks: int32(ceilDiv(in.Queries, attentionRows)), Scale: in.Scale,
		Limit: tensor.MaxE4M3, Capacity: int32(c.Capacity), KeyScale: in.KeyScale.Address,
	}
	l := Launch{
		Grid: Dim{X: min(items, s.properties.Processors)}, Threads: 128 * (cachedGroups + 1),
		SharedBytes: cachedShared(c.KVLayout), Dependent: dependent,
	}
	return launch(s, cachedKernel(c.KVLayout), l, argument, where)
}

func cachedKernel(l KVLayout) string { return "attention_cache_" + l.String() }

// cachedShared is the dynamic shared memory of a block: that of struct Shared and of struct
// Producer of attention_cache.cu.
func cachedShared(l KVLayout) int {
	return sharedBytes(l.HeadDim, cachedGroups, cachedStages) + cachedStages*(2*l.RecordBytes()+8)
}

// allowCached lets the kernels have their shared memory.
func (s *Session) allowCached() error {
	var faults []error
	for _, l := range kvLayouts() {
		faults = append(faults, allowShared(s.functions[cachedKernel(l)], cachedShared(l), "kernel "+cachedKernel(l)))
	}
	return errors.Join(faults...)
}

// cachedAttention caches BF16 keys and values, attends, and copies o and lse back; an empty
// lse is not wanted.
func (s *Session) cachedAttention(o []uint16, lse []float32, q, k, v []uint16, a kernels.Attention) (err error) {
	var owned []Memory
	defer func() {
		for _, m := range owned {
			err = errors.Join(err, s.Free(m))
		}
	}()
	own := func(m Memory, e error) Memory {
		owned, err = append(owned, m), errors.Join(err, e)
		return m
	}
	optional := func(x []float32) Memory {
		if len(x) == 0 {
			return Memory{}
		}
		return own(AllocOf(s, x))
	}
	cache, err := s.NewKVCache(NewKVLayout(a.Format.KV, a.HeadDim), a.Batch, a.KVHeads, a.Keys)
	if err != nil {
		return err
	}
	owned = append(owned, cache.Records)
	smoothing := KVSmoothing{optional(a.KV.KeyScales), optional(a.KV.KeyMeans), optional(a.KV.ValueMeans)}
	in := NewKV{
		K: own(AllocOf(s, k)), V: own(AllocOf(s, v)), BF16: true, Tokens: a.Keys,
		Starts: own(AllocOf(s, make([]int32, a.Batch))), KVSmoothing: smoothing,
	}
	out := CachedQueries{
		Q: own(AllocOf(s, q)), Heads: a.Heads, Queries: a.Queries, Tokens: a.Keys, Causal: a.Causal, Window: a.Window, Scale: a.Scale,
		KVSmoothing: smoothing, O: own(s.Alloc(2 * len(o))),
	}
	if len(lse) > 0 {
		out.LSE = own(s.Alloc(4 * len(lse)))
	}
	if err != nil {
		return err
	}
	return errors.Join(s.AppendKV(cache, in, false), s.AttendCached(cache, out, true), Download(s, o, out.O), Download(s, lse, out.LSE))
}
