package cuda

const (
	kvWarps       = 4   // of a decode block
	kvMaxStages   = 8   // of a warp's ring
	kvMaxSplits   = 128 // of a sequence
	kvBlocks      = 2   // blocks that a multiprocessor holds
	kvSharedBytes = 110 << 10
)

// kvChunk chooses how many records a block of the decode kernel reads when `pairs`
// sequences and KV heads have at most `records` each: the multiple of 4, one record a
// warp, that needs the fewest rounds. Blocks run in waves of two a multiprocessor; a
// wave takes chunk/4 rounds and kvWaveCost for its first bytes and its merge.
func kvChunk(processors, pairs, records int) int {
	rounds := max(1, ceilDiv(records, kvWarps))
	best, bestCost := rounds, 0
	for chunk := rounds; chunk >= 1 && ceilDiv(rounds, chunk) <= kvMaxSplits; chunk-- {
		waves := ceilDiv(pairs*ceilDiv(rounds, chunk), kvBlocks*processors)
		if cost := waves * (chunk + kvWaveCost); bestCost == 0 || cost < bestCost {
			best, bestCost = chunk, cost
		}
	}
	return kvWarps * best
}

// kvWaveCost is in rounds of four records, which take a multiprocessor about 1.5 us.
const kvWaveCost = 2

// kvStages is how many records a warp has on their way.
func (l KVLayout) kvStages() int {
	return min(kvMaxStages, kvSharedBytes/(kvWarps*l.RecordBytes()))
}
