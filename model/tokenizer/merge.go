package tokenizer

import "strings"

// Bounds of an encoder's memory.
const (
	maxCachedPiece = 64      // bytes of a piece worth remembering
	maxCached      = 1 << 16 // pieces
	maxScan        = 32      // symbols merged without a heap
)

// encoder is the working memory of one Encode: buffers and a cache of pieces.
// Results do not depend on what it holds.
type encoder struct {
	model      *bpe
	cache      map[string]cached
	arena      []int32 // ids of the cached pieces
	sym        []int32
	rank       []uint64
	prev, next []int32
	heap       minHeap
	out        []int32             // the ids so far
	yields     []func(piece) error // by pre-tokenizer, the model last
}

type cached struct{ start, end int32 }

// word appends the ids of one pre-token.
func (e *encoder) word(dst []int32, text string) ([]int32, error) {
	m := e.model
	if m.ignoreMerges {
		if id, ok := m.ids[text]; ok {
			return append(dst, id), nil
		}
	}
	if m.cuts == nil {
		return e.part(dst, text)
	}
	for i := 0; i < len(text); {
		end := m.cuts.next(text, i)
		var err error
		if dst, err = e.part(dst, text[i:end]); err != nil {
			return nil, err
		}
		i = end
	}
	return dst, nil
}

// part appends the ids of text by merging, or from the cache.
func (e *encoder) part(dst []int32, text string) ([]int32, error) {
	if len(text) <= maxCachedPiece {
		if c, ok := e.cache[text]; ok {
			return append(dst, e.arena[c.start:c.end]...), nil
		}
	}
	var err error
	if e.sym, err = e.model.symbols(e.sym[:0], text); err != nil {
		return nil, err
	}
	ids := e.merge(e.sym)
	if len(text) <= maxCachedPiece {
		if len(e.cache) >= maxCached {
			clear(e.cache)
			e.arena = e.arena[:0]
		}
		start := len(e.arena)
		e.arena = append(e.arena, ids...)
		// The clone keeps the cache from holding on to the whole text.
		e.cache[strings.Clone(text)] = cached{int32(start), int32(len(e.arena))}
	}
	return append(dst, ids...), nil
}

// merge joins the pair of lowest rank, leftmost first, until none is left. It
// works in sym and returns its shortened head.
func (e *encoder) merge(sym []int32) []int32 {
	if len(sym) <= maxScan {
		return e.mergeScan(sym)
	}
	return e.mergeHeap(sym)
}

// mergeScan looks at every pair for each merge: quadratic, best when short.
func (e *encoder) mergeScan(sym []int32) []int32 {
	t := &e.model.merges
	rank := e.rank[:0]
	for i := 1; i < len(sym); i++ {
		rank = append(rank, t.get(sym[i-1], sym[i]))
	}
	e.rank = rank
	for len(rank) > 0 {
		best, at := noMerge, 0
		for i, r := range rank {
			if r < best {
				best, at = r, i
			}
		}
		if best == noMerge {
			break
		}
		sym[at] = int32(uint32(best))
		sym = append(sym[:at+1], sym[at+2:]...)
		rank = append(rank[:at], rank[at+1:]...)
		if at > 0 {
			rank[at-1] = t.get(sym[at-1], sym[at])
		}
		if at < len(rank) {
			rank[at] = t.get(sym[at], sym[at+1])
		}
	}
	return sym
}

// mergeHeap keeps the symbols in a linked list and the possible merges in a
// heap ordered by rank, then position: O(n log n). An entry is stale if its
// position was absorbed or its pair has another rank by now. (The text of the
// pair at a position only grows, so a rank never comes back.)
func (e *encoder) mergeHeap(sym []int32) []int32 {
	t := &e.model.merges
	n := len(sym)
	prev, next := grow(e.prev, n), grow(e.next, n)
	e.prev, e.next = prev, next
	heap := e.heap[:0]
	for i := range n {
		prev[i], next[i] = int32(i-1), int32(i+1)
		if i+1 < n {
			if m := t.get(sym[i], sym[i+1]); m != noMerge {
				heap = append(heap, entry(m, int32(i)))
			}
		}
	}
	heap.init()
	for len(heap) > 0 {
		top := heap.pop()
		at := int32(uint32(top))
		right := next[at]
		if sym[at] < 0 || right >= int32(n) {
			continue
		}
		m := t.get(sym[at], sym[right])
		if m == noMerge || m>>32 != top>>32 {
			continue
		}
		sym[at], sym[right] = int32(uint32(m)), -1
		after := next[right]
		next[at] = after
		if after < int32(n) {
			prev[after] = at
			if m := t.get(sym[at], sym[after]); m != noMerge {
				heap.push(entry(m, at))
			}
		}
		if before := prev[at]; before >= 0 {
			if m := t.get(sym[before], sym[at]); m != noMerge {
				heap.push(entry(m, before))
			}
		}
	}
	e.heap = heap
	out := sym[:0]
	for _, id := range sym {
		if id >= 0 {
			out = append(out, id)
		}
	}
	return out
}

// entry orders merges by rank, then position.
func entry(merge uint64, at int32) uint64 { return merge>>32<<32 | uint64(uint32(at)) }

// grow gives a slice of length n, of unspecified content.
func grow(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}

// minHeap is a binary heap of integers; container/heap costs an interface call
// for each comparison.
type minHeap []uint64

func (h minHeap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h minHeap) down(i int) {
	x := h[i]
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1] < h[c] {
			c++
		}
		if x <= h[c] {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = x
}

func (h *minHeap) push(x uint64) {
	*h = append(*h, x)
	s := *h
	i := len(s) - 1
	for i > 0 && x < s[(i-1)/2] {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = x
}

func (h *minHeap) pop() uint64 {
	s := *h
	top := s[0]
	last := len(s) - 1
	s[0] = s[last]
	*h = s[:last]
	if last > 0 {
		(*h).down(0)
	}
	return top
}
