package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// attend is softmax(q·kᵀ)·v of one query in float64.
func attend(q []float64, k, v [][]float64) []float64 {
	scores := make([]float64, len(k))
	for j := range k {
		for c := range q {
			scores[j] += q[c] * k[j][c]
		}
	}
	top, sum, out := slices.Max(scores), 0.0, make([]float64, len(q))
	for j, s := range scores {
		p := math.Exp(s - top)
		sum += p
		for c := range out {
			out[c] += p * v[j][c]
		}
	}
	for c := range out {
		out[c] /= sum
	}
	return out
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// A kernel that keeps smooth keys and values, never adds the mean of the keys back
// and adds that of the values to its output computes what NewCache's do.
func TestCacheIsAKernelWithSmoothKeysAndValues(t *testing.T) {
	t.Parallel()
	const d, tokens = 32, 20
	r := rand.New(rand.NewPCG(3, 3))
	random := func(spread, mean float64) []float32 {
		x := make([]float32, d)
		for i := range x {
			x[i] = float32(mean + spread*r.NormFloat64())
		}
		return x
	}
	kappa := make([]float32, d)
	for i := range kappa {
		kappa[i] = float32(math.Exp(0.5 * r.NormFloat64()))
	}
	s := &packer.Sidecar{KeyScales: [][]float32{kappa}, KeyMeans: [][]float32{random(4, 0)}, ValueMeans: [][]float32{random(4, 0)}}
	c := &model.Config{Layers: 1, Heads: 1, KVHeads: 1, HeadDim: d}
	for _, scheme := range []packer.KVScheme{{Format: packer.KVInt4}, {Format: packer.KVInt4, Symmetric: true}} {
		cache, err := kernels.NewCache(scheme, s, c)
		if err != nil {
			t.Fatal(err)
		}
		cached := func(x []float32) []float64 {
			if scheme.Symmetric {
				codes := make([]int8, d)
				packer.DecodeKV4(x, codes, packer.EncodeKV4(codes, x))
			} else {
				codes := make([]uint8, d)
				scale, offset := packer.EncodeKV4Asymmetric(codes, x)
				packer.DecodeKV4Asymmetric(x, codes, scale, offset)
			}
			return wide(x)
		}
		q, k, v := tensor.NewMatrix(tokens, d), tensor.NewMatrix(tokens, d), tensor.NewMatrix(tokens, d)
		var keys, values, cacheKeys, cacheValues [][]float64
		for j := range tokens {
			copy(q.Row(j), random(0.3, 0))
			copy(k.Row(j), random(1, 0))
			copy(v.Row(j), random(1, 0))
			x, y := slices.Clone(k.Row(j)), slices.Clone(v.Row(j))
			for i := range x {
				x[i] = x[i]*kappa[i] - s.KeyMeans[0][i]
				y[i] -= s.ValueMeans[0][i]
			}
			keys, values = append(keys, cached(x)), append(values, cached(y))
		}
		query := wide(q.Row(0))
		scaled := make([]float64, d)
		for i := range scaled {
			scaled[i] = query[i] / float64(kappa[i])
		}
		cache(0, q, k, v)
		for j := range tokens {
			cacheKeys, cacheValues = append(cacheKeys, wide(k.Row(j))), append(cacheValues, wide(v.Row(j)))
		}
		got, want := attend(query, cacheKeys, cacheValues), attend(scaled, keys, values)
		for i := range want {
			// FP32 roundings of numbers below 20 move a score of 32 products by less than 2^-16.
			if w := want[i] + float64(s.ValueMeans[0][i]); math.Abs(got[i]-w) > 20*0x1p-16 {
				t.Errorf("%v: channel %d is %v, the kernel's is %v", scheme, i, got[i], w)
			}
		}
	}
}

// Keys with a bias of many times their spread: without their mean what is rounded
// is the spread.
func TestCacheRoundsSmoothKeysFiner(t *testing.T) {
	t.Parallel()
	c := &model.Config{Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 64}
	r := rand.New(rand.NewPCG(4, 4))
	mean := make([]float32, 64)
	for i := range mean {
		mean[i] = float32(10 * r.NormFloat64())
	}
	loss := func(scheme packer.KVScheme, s *packer.Sidecar) float64 {
		r := rand.New(rand.NewPCG(5, 5))
		q, k, v := tensor.NewMatrix(50, 64), tensor.NewMatrix(50, 64), tensor.NewMatrix(50, 64)
		for i := range k.Data {
			k.Data[i] = mean[i%64] + float32(r.NormFloat64())
			v.Data[i] = k.Data[i]
		}
		before := slices.Clone(k.Data)
		cache, err := kernels.NewCache(scheme, s, c)
		if err != nil {
			t.Fatal(err)
		}
		cache(0, q, k, v)
		sum := 0.0
		for i, x := range before {
			dk, dv := float64(k.Data[i]-x), float64(v.Data[i]-x)
			sum += dk*dk + dv*dv
		}
		return sum
	}
	smooth := &packer.Sidecar{KeyMeans: [][]float32{mean}, ValueMeans: [][]float32{mean}}
	for _, symmetric := range []bool{false, true} {
		scheme := packer.KVScheme{Format: packer.KVInt4, Symmetric: symmetric}
		if a, b := loss(scheme, nil), loss(scheme, smooth); !(b < a/20) {
			t.Errorf("%v: squared error %g, smooth %g", scheme, a, b)
		}
	}
}
