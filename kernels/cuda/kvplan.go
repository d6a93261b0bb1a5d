package cuda

const (
	kvWarps       = 4   // of a decode block
	kvMaxStages   = 8   // of a warp's ring
	kvMaxSplits   = 128 // of a sequence
	kvSharedBytes = 110 << 10
)

// kvChunk chooses how many records a block of the decode kernel reads when `pairs`
// sequences and KV heads have at most `records` each: a multiple of 4, one record a
// warp. What one multiprocessor reads takes the time, so the best division is the one
// that gives none of them much more than its share in few blocks.
func kvChunk(processors, pairs, records int) int {
	rounds := max(1, ceilDiv(records, kvWarps))
	best, bestCost := rounds, 0
	for chunk := rounds; chunk >= 1 && ceilDiv(rounds, chunk) <= kvMaxSplits; chunk-- {
		blocks := ceilDiv(pairs*ceilDiv(rounds, chunk), processors)
		if cost := blocks * (chunk + kvBlockCost); bestCost == 0 || cost < bestCost {
			best, bestCost = chunk, cost
		}
	}
	return kvWarps * best
}

// kvBlockCost is a block's beginning and merge, in rounds of four records.
const kvBlockCost = 2

// kvStages is how many records a warp has on their way.
func (l KVLayout) kvStages() int {
	return min(kvMaxStages, kvSharedBytes/(kvWarps*l.RecordBytes()))
}
