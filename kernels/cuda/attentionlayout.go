package cuda

import "quantize/kernels"

// Sizes of the prefill kernels (attention.cuh, attention.cu); the package comment draws
// the layouts.
const (
	attentionRows = 64              // queries of a warpgroup, of a row of the mask
	attentionKeys = kernels.KeyTile // of a tile
)

// chunkOffset is the place of 16-byte chunk `chunk` of a row of `width` bytes, 128 or 64,
// in a tile that wgmma reads with 128-byte or 64-byte swizzle.
func chunkOffset(width, row, chunk int) int {
	swizzle := row & 7
	if width == 64 {
		swizzle = row >> 1 & 3
	}
	return row*width + (chunk^swizzle)<<4
}

// keyOffset is the place of the code of channel c of key j, among d channels.
func keyOffset(d, j, c int) int {
	return j/attentionKeys*attentionKeys*d + chunkOffset(d, j%attentionKeys, c/16) + c%16
}

// valueOffset is the place of the code of channel c of value j, among d channels.
func valueOffset(d, j, c int) int {
	return j/attentionKeys*attentionKeys*d + chunkOffset(attentionKeys, c, j%attentionKeys/16) + valuePlace(j%16)
}

// valuePlace is where key j of 16 lies: place 4t+i holds key 2t+i, or 8+2t+i-2 for i > 1,
// so that the four neighbours are those whose scores one thread has.
func valuePlace(j int) int { return j%8/2*4 + j%2 + j/8*2 }

// maskBits spreads m, which may be nil, over the tiles of the kernel: bit j%32 of word
// ((b·Heads + h)·rows + i)·words + j/32 says whether 64 queries i of head h of sequence b
// look at the 128 keys j. Blocks must be whole tiles.
func maskBits(a kernels.Attention) (bits []uint32, words int) {
	if a.Mask == nil {
		return nil, 0
	}
	tiles, rows := ceilDiv(a.Keys, attentionKeys), ceilDiv(a.Queries, attentionRows)
	words = ceilDiv(tiles, 32)
	bits = make([]uint32, a.Batch*a.Heads*rows*words)
	for pair := range a.Batch * a.Heads {
		for i := range rows {
			for j := range tiles {
				if a.Touches(pair/a.Heads, pair%a.Heads, i*attentionRows, min((i+1)*attentionRows, a.Queries), j*attentionKeys, min((j+1)*attentionKeys, a.Keys)) {
					bits[(pair*rows+i)*words+j/32] |= 1 << (j % 32)
				}
			}
		}
	}
	return bits, words
}
