package kernels

// Tiles of a Hopper kernel (SageAttention2's sm90 kernel; docs/methods.md 2.5, 2.10).
const (
	// KeyTile is how many keys are multiplied at a time, share a fresh accumulator of PV,
	// and are told apart by at most 4 scales.
	KeyTile = 128
	// SmoothBlock is how many queries share a mean under SmoothQ.
	SmoothBlock = 128

	warpRows = 16 // queries of a warp: wgmma m64 gives each of 4 warps 16 rows
)

// Tile returns QueryTile, or what 0 stands for.
func (f AttentionFormat) Tile() int {
	if f.QueryTile == 0 {
		return 64
	}
	return f.QueryTile
}

// QueryGroup returns which scale of its sequence and head query n shares:
//
//	block    n/Tile
//	warp     n/16
//	thread   n/16·8 + n mod 8         thread t of a warp holds rows t/4 and t/4 + 8
func (f AttentionFormat) QueryGroup(n int) int {
	switch f.Granularity {
	case PerWarp:
		return n / warpRows
	case PerThread:
		return n/warpRows*8 + n%8
	default:
		return n / f.Tile()
	}
}

// KeyGroup returns which scale of its sequence and KV head key n shares:
//
//	block, warp   n/128
//	thread        n/128·4 + n mod 8/2        thread t holds columns 8i + 2(t mod 4), +1
func (f AttentionFormat) KeyGroup(n int) int {
	if f.Granularity == PerThread {
		return n/KeyTile*4 + n%8/2
	}
	return n / KeyTile
}

// QueryGroups returns the number of scales of a head's n queries, tiles filled up. The
// tokens that fill them count as absent.
func (f AttentionFormat) QueryGroups(n int) int {
	if n == 0 {
		return 0
	}
	return f.QueryGroup(ceilDiv(n, f.Tile())*f.Tile()-1) + 1
}

// KeyGroups returns the number of scales of a head's n keys, tiles filled up.
func (f AttentionFormat) KeyGroups(n int) int {
	if n == 0 {
		return 0
	}
	return f.KeyGroup(ceilDiv(n, KeyTile)*KeyTile-1) + 1
}
