package ref_test

import (
	"math"
	"math/bits"
	"testing"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/tensor"
)

// A query and a key that are one channel become that row of the Hadamard matrix, in all
// channels alike: equal codes, whose signs are (-1)^popcount(i&c), and scales that give 1
// back as the product of a row with itself.
func TestTurnedChannelIsARowOfHadamard(t *testing.T) {
	t.Parallel()
	for _, d := range []int{1, 2, 64, 128} {
		a := kernels.Attention{
			Batch: 1, Heads: 1, KVHeads: 1, HeadDim: d, Queries: 1, Keys: 1, Scale: 1,
			Format: kernels.AttentionFormat{Mode: kernels.AttentionInt8, Hadamard: true},
		}
		for c := range d {
			x := tensor.NewMatrix(1, d)
			x.Row(0)[c] = 1
			o := ref.RoundAttention(x, x, x, a)
			product := 0.0
			for i := range d {
				want := float32(127)
				if bits.OnesCount(uint(i&c))%2 == 1 {
					want = -want
				}
				if q, k := o.Q.Row(0)[i], o.K.Row(0)[i]; q != want || k != want {
					t.Fatalf("channel %d of %d: codes %v and %v at %d, want %v", c, d, q, k, i, want)
				}
				product += float64(o.Q.Row(0)[i]) * float64(o.K.Row(0)[i])
			}
			product *= float64(o.QScales.Row(0)[0]) * float64(o.KScales.Row(0)[0])
			if math.Abs(product-1) > 1e-6 {
				t.Fatalf("channel %d of %d: product %v, want 1", c, d, product)
			}
		}
	}
}
