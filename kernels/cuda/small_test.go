//go:build cuda

package cuda

import (
	"errors"
	"math/rand/v2"
	"testing"

	"quantize/kernels"
)

// TestSmall launches every kind of kernel on small shapes, for compute-sanitizer, under
// which a launch takes a thousand times longer.
func TestSmall(t *testing.T) {
	onDevice(t, func(s *Session) error {
		var faults []error
		for i, c := range []struct {
			shape      [3]int
			group, low int
		}{{[3]int{9, 200, 384}, 128, -8}, {[3]int{133, 136, 256}, 64, -8}} {
			faults = append(faults, s.checkIntegerProduct(rand.New(rand.NewPCG(5, uint64(i))), c.shape, c.group, c.low))
		}
		for i, f := range prefillFormats() {
			if f.Mode == kernels.AttentionInt4 {
				continue // the same code as INT8
			}
			a := kernels.Attention{Batch: 1, Heads: 2, KVHeads: 1, HeadDim: 64 << (i / 2 % 2), Queries: 260, Keys: 330, Causal: true, Scale: 0.1, Format: f}
			r := rand.New(rand.NewPCG(6, uint64(i)))
			keys := a
			keys.Queries = 0
			faults = append(faults, s.checkCodes(r, keys), s.checkAttention(r, a), s.checkAttention(r, withMask(a, 64, 128)))
		}
		for _, l := range []KVLayout{{HeadDim: 64, Group: 32}, {HeadDim: 128, Group: 128, Symmetric: true}} {
			faults = append(faults, s.checkCached(l, 2))
		}
		small := KVLayout{HeadDim: 64, Group: 32}
		faults = append(faults,
			s.checkKVAppend(appendCase{layout: small, tokens: 5, smooth: true, rotary: true, starts: []int{0, 62}, kvHeads: 2, capacity: 128}),
			s.checkKVDecode(kvCase{layout: small, lengths: []int{1, 65, 530}, kvHeads: 2, queries: 3, smooth: true, chunk: 4}, 2),
			s.checkKVDecode(kvCase{layout: KVLayout{HeadDim: 128, Group: 128, Symmetric: true}, lengths: []int{700, 0}, kvHeads: 1, queries: 8, bf16: true, fp8: true}, 1),
		)
		return errors.Join(faults...)
	})
}
