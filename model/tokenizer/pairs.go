package tokenizer

import "math/bits"

// pairTable maps a pair of token ids to a merge: an open-addressing table with
// linear probing, at most half full, read for every neighbouring pair of
// symbols. Go's map costs three times as much here.
type pairTable struct {
	slots []pairSlot
	shift uint
}

type pairSlot struct {
	key   uint64 // left<<32 | right, noPair if free
	merge uint64 // rank<<32 | id of the joined token
}

const noPair = ^uint64(0)

// newPairTable makes a table for n pairs.
func newPairTable(n int) pairTable {
	size := max(bits.Len(uint(2*n)), 4)
	t := pairTable{make([]pairSlot, 1<<size), uint(64 - size)}
	for i := range t.slots {
		t.slots[i].key = noPair
	}
	return t
}

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// slot gives the slot of a key, or the free one where it belongs.
func (t *pairTable) slot(key uint64) *pairSlot {
	mask := uint64(len(t.slots) - 1)
	i := (key * 0x9E3779B97F4A7C15) >> (t.shift & 63) // Fibonacci hashing
	for t.slots[i].key != key && t.slots[i].key != noPair {
		i = (i + 1) & mask
	}
	return &t.slots[i]
}

// put stores a merge; the later of two for one pair stays, as in the reference.
func (t *pairTable) put(left, right int32, rank, id int) {
	key := pairKey(left, right)
	*t.slot(key) = pairSlot{key, uint64(rank)<<32 | uint64(id)}
}

// get gives the merge of a pair; noMerge if there is none.
func (t *pairTable) get(left, right int32) uint64 {
	if s := t.slot(pairKey(left, right)); s.key != noPair {
		return s.merge
	}
	return noMerge
}

// noMerge has a worse rank than any merge.
const noMerge = ^uint64(0)
