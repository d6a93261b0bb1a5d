package kernels

import (
	"fmt"
	"math/bits"

	"quantize/internal/fault"
	"quantize/packer"
)

// AttentionMode is what queries and keys are multiplied in: plans in a checkpoint name it.
type AttentionMode = packer.AttentionMode

// The modes.
const (
	AttentionBF16 = packer.AttentionBF16
	AttentionFP8  = packer.AttentionFP8
	AttentionInt8 = packer.AttentionInt8
	AttentionInt4 = packer.AttentionInt4
)

// Granularity says which tokens of a head share the scale of their query or key
// codes: [AttentionFormat.QueryGroup], [AttentionFormat.KeyGroup].
type Granularity uint8

const (
	// PerBlock is a scale for each tile: QueryTile queries, KeyTile keys.
	PerBlock Granularity = iota
	// PerWarp is a scale for the 16 queries of a warp, and for KeyTile keys.
	PerWarp
	// PerThread is a scale for what one thread of an MMA holds: 8 for the queries of a
	// warp, 4 for KeyTile keys.
	PerThread
)

var granularityNames = []string{"block", "warp", "thread"}

// String returns "block", "warp" or "thread".
func (g Granularity) String() string {
	if int(g) >= len(granularityNames) {
		return "unknown"
	}
	return granularityNames[g]
}

// AttentionFormat is the arithmetic of one layer's attention; what a mode in a plan stands
// for is [PlannedFormat]'s. The zero value rounds nothing. ref.RoundAttention is its
// meaning, to the bit.
//
// SageAttention2 (arXiv 2411.10958; docs/methods.md 2) is a Mode with smoothing; FireQ
// (arXiv 2505.20839; docs/methods.md 1.11) is AttentionFP8 with KV.
type AttentionFormat struct {
	Mode        AttentionMode
	Granularity Granularity
	// QueryTile is how many queries a block works on, 64 or 128; 0 is 64.
	QueryTile int
	// SmoothK takes from every key the mean of its sequence and KV head: softmax does not
	// see it. SmoothQ takes from a query the mean of its SmoothBlock, and adds that mean's
	// scores. SmoothV takes from every value the mean of its sequence, KV head and
	// channel, and adds it to the output.
	SmoothQ bool
	SmoothK bool
	SmoothV bool
	// Hadamard turns queries and keys of a head, smoothed, by the same Hadamard matrix: their
	// products do not see it, and a channel's outliers spread over all, which integers hold
	// better (incoherent processing: FlashAttention-3, arXiv 2407.08608, section 3.3). Heads
	// have a power of two of channels.
	Hadamard bool
	// KV, where it keeps less than everything, is how keys and values lie in the cache
	// that is read. It goes with AttentionFP8 and FP8Queries, has its own scales and its
	// means come from KVParams: Granularity, smoothing and Hadamard do not apply.
	KV packer.KVScheme
}

// Validate reports with packer.ErrOption what does not fit together, or not heads of
// headDim channels.
func (f AttentionFormat) Validate(headDim int) error {
	bad := func(found, wanted string) error {
		return &fault.Error{Err: packer.ErrOption, Where: "attention format", Found: found, Wanted: wanted}
	}
	switch {
	case !f.Mode.Known():
		return bad(fmt.Sprintf("mode %d", f.Mode), "bf16, fp8, int8-qk or int4-qk")
	case int(f.Granularity) >= len(granularityNames):
		return bad(fmt.Sprintf("granularity %d", f.Granularity), "block, warp or thread")
	case f.QueryTile != 0 && f.QueryTile != 64 && f.QueryTile != 128:
		return bad(fmt.Sprintf("a query tile of %d", f.QueryTile), "64 or 128")
	case f.Mode == AttentionBF16 && f.Granularity != PerBlock:
		return bad("bf16 with scales by "+f.Granularity.String(), "none, since nothing is rounded")
	case f.Mode == AttentionBF16 && f.Hadamard:
		return bad("bf16 with a Hadamard matrix", "none, since nothing is rounded")
	case f.Hadamard && bits.OnesCount(uint(headDim)) != 1:
		return bad(fmt.Sprintf("a Hadamard matrix for heads of %d channels", headDim), "a power of two")
	case f.KV.Format == packer.KVNone:
		return f.KV.Validate(headDim)
	case f.Mode != AttentionFP8 || !f.KV.FP8Queries:
		return bad(fmt.Sprintf("%v over a cache in %v", f.Mode, f.KV), "fp8 with FP8 queries")
	case f.Granularity != PerBlock || f.SmoothQ || f.SmoothK || f.SmoothV || f.Hadamard:
		return bad("granularity, smoothing or Hadamard matrix of a cache", "neither: the cache has its scales and means")
	}
	return f.KV.Validate(headDim)
}
