package cuda

import (
	"math/rand/v2"
	"testing"

	"quantize/kernels"
)

// Codes fill their tiles, each in a place of its own.
func TestAttentionTilesAreFilled(t *testing.T) {
	t.Parallel()
	for _, d := range []int{64, 128} {
		for name, offset := range map[string]func(d, j, c int) int{"keys": keyOffset, "values": valueOffset} {
			seen := make([]bool, 3*attentionKeys*d)
			for j := range 3 * attentionKeys {
				for c := range d {
					at := offset(d, j, c)
					if at/(attentionKeys*d) != j/attentionKeys || seen[at] {
						t.Fatalf("%s, size %d: code (%d, %d) is at %d, in another tile or on another code", name, d, j, c, at)
					}
					seen[at] = true
				}
			}
		}
	}
}

// Eight rows of a chunk lie in eight groups of four banks: wgmma reads them at once.
func TestChunksHaveNoBankConflicts(t *testing.T) {
	t.Parallel()
	for _, width := range []int{64, 128} {
		for row := 0; row < 128; row += 8 {
			for chunk := range width / 16 {
				banks := map[int]bool{}
				for r := row; r < row+8; r++ {
					banks[chunkOffset(width, r, chunk)/16%8] = true
				}
				if len(banks) != 8 {
					t.Fatalf("rows of %d bytes from %d, chunk %d: %d groups of banks", width, row, chunk, len(banks))
				}
			}
		}
	}
}

// What a thread has of the scores is what the A fragment of the output's product wants of
// it: scores of wgmma m64n128 are columns 8b+2t, +1, the bytes of A registers 0 and 2 the
// columns 4t..4t+3 and 16+4t..+3 of 32. The permuted V must have the same key there.
func TestScoresMeetTheirValues(t *testing.T) {
	t.Parallel()
	for thread := range 4 {
		for step := range 4 {
			for register := range 2 {
				for i := range 4 {
					block := 4*step + 2*register + i/2 // struct Softmax packs these
					key := 8*block + 2*thread + i%2
					column := 32*step + 16*register + 4*thread + i
					if got := key/16*16 + valuePlace(key%16); got != column {
						t.Errorf("thread %d multiplies key %d by column %d of V, where it has column %d", thread, key, got, column)
					}
				}
			}
		}
	}
}

// A bit is clear only where no query of 64 sees a key of 128, and a hidden block's bits are.
func TestMaskBits(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(6, 6))
	for n := range 20 {
		a := kernels.Attention{Batch: 2, Heads: 2, KVHeads: 1, HeadDim: 64, Queries: 1 + r.IntN(300), Keys: 1 + r.IntN(5000), Causal: n%2 == 0}
		m := &kernels.BlockMask{QueryBlock: 64 * (1 + r.IntN(3)), KeyBlock: 128 * (1 + r.IntN(3))}
		m.Keep = make([]bool, 4*ceilDiv(a.Queries, m.QueryBlock)*ceilDiv(a.Keys, m.KeyBlock))
		for i := range m.Keep {
			m.Keep[i] = r.IntN(2) == 0
		}
		a.Mask = m
		bits, words := maskBits(a)
		rows := ceilDiv(a.Queries, attentionRows)
		if len(bits) != 4*rows*words || words*32*attentionKeys < a.Keys {
			t.Fatalf("%d words of %d for %+v", len(bits), words, a)
		}
		for range 1000 {
			b, h, i, j := r.IntN(2), r.IntN(2), r.IntN(a.Queries), r.IntN(a.Keys)
			set := bits[((b*2+h)*rows+i/attentionRows)*words+j/attentionKeys/32]>>(j/attentionKeys%32)&1 != 0
			keep := m.Keep[((b*2+h)*ceilDiv(a.Queries, m.QueryBlock)+i/m.QueryBlock)*ceilDiv(a.Keys, m.KeyBlock)+j/m.KeyBlock]
			if set && !keep || !set && a.Sees(b, h, i, j) {
				t.Fatalf("%+v: bit of query %d, key %d is %v, the mask has %v", a, i, j, set, keep)
			}
		}
	}
	if bits, words := maskBits(kernels.Attention{Queries: 1, Keys: 1}); bits != nil || words != 0 {
		t.Error("bits without a mask")
	}
}
