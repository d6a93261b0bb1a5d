package ref_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/kernels/ref"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// Attention over codes, with κ moved to the query and both means outside, is exact
// attention over what NewCache makes of keys and values.
func TestDecodeAttendIsAttendOverTheCache(t *testing.T) {
	t.Parallel()
	const heads, kvHeads, d, tokens = 4, 2, 64, 70
	for _, scheme := range []packer.KVScheme{
		{Format: packer.KVInt4},
		{Format: packer.KVInt4, Symmetric: true, GroupSize: 32},
		{Format: packer.KVInt4, GroupSize: 32, FP8Queries: true},
	} {
		r := rand.New(rand.NewPCG(21, 1))
		random := func(n int, from, spread float64) []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(from + spread*r.NormFloat64())
			}
			return x
		}
		kappa := make([]float32, kvHeads*d)
		for i := range kappa {
			kappa[i] = float32(math.Exp2(float64(r.IntN(3) - 1))) // powers of two keep q/κ an FP16 value
		}
		s := &packer.Sidecar{
			KeyScales: [][]float32{kappa}, KeyMeans: [][]float32{random(kvHeads*d, 0, 1)}, ValueMeans: [][]float32{random(kvHeads*d, 0, 1)},
		}
		q, k, v := tensor.NewMatrix(tokens, heads*d), tensor.NewMatrix(tokens, kvHeads*d), tensor.NewMatrix(tokens, kvHeads*d)
		for i := range q.Data {
			q.Data[i] = tensor.BF16Value(tensor.BF16Bits(float32(r.NormFloat64())))
		}
		copy(k.Data, random(len(k.Data), 0.5, 1))
		copy(v.Data, random(len(v.Data), -0.5, 1))

		type cached struct{ keys, values tensor.Matrix }
		var caches [kvHeads]cached
		queries := make([][]float32, heads)
		for h := range caches {
			caches[h] = cached{tensor.NewMatrix(tokens, d), tensor.NewMatrix(tokens, d)}
			at := func(x []float32) []float32 { return append([]float32(nil), x[h*d:(h+1)*d]...) }
			for m := range tokens {
				key, value := at(k.Row(m)), at(v.Row(m))
				ref.Smooth(key, at(kappa), at(s.KeyMeans[0]))
				ref.Smooth(value, nil, at(s.ValueMeans[0]))
				ref.EncodeCached(scheme, key).Decode(caches[h].keys.Row(m))
				ref.EncodeCached(scheme, value).Decode(caches[h].values.Row(m))
			}
		}
		for h := range queries {
			kv := h / (heads / kvHeads)
			queries[h] = ref.KVQuery(q.Row(tokens - 1)[h*d:(h+1)*d], kappa[kv*d:(kv+1)*d], scheme.FP8Queries)
		}

		round, err := ref.NewCache(scheme, s, &model.Config{Layers: 1, Heads: heads, KVHeads: kvHeads, HeadDim: d})
		if err != nil {
			t.Fatal(err)
		}
		round(0, q, k, v)
		want := tensor.NewMatrix(tokens, heads*d)
		ref.New().Attend(want, q, k, v, model.Attention{Heads: heads, KVHeads: kvHeads, HeadDim: d, Scale: 0.125})
		for h, query := range queries {
			kv := h / (heads / kvHeads)
			o := make([]float64, d)
			lse := ref.DecodeAttend(o, query, caches[kv].keys, caches[kv].values,
				s.KeyMeans[0][kv*d:(kv+1)*d], s.ValueMeans[0][kv*d:(kv+1)*d], 0.125)
			for c, x := range o {
				if w := float64(want.Row(tokens - 1)[h*d+c]); !(math.Abs(x-w) <= 2e-5) {
					t.Fatalf("%v, head %d, channel %d: found %g, wanted %g", scheme, h, c, x, w)
				}
			}
			sum := 0.0
			for j := range tokens {
				z := 0.0
				for c := range d {
					z += 0.125 * float64(q.Row(tokens - 1)[h*d+c]) * float64(k.Row(j)[kv*d+c])
				}
				sum += math.Exp(z)
			}
			if !(math.Abs(lse-math.Log(sum)) <= 2e-5) {
				t.Errorf("%v, head %d: log-sum %g, wanted %g", scheme, h, lse, math.Log(sum))
			}
		}
	}
}

// A query that FP16 holds is not rounded, however large or small.
func TestKVQueryKeepsBF16(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(22, 1))
	for _, size := range []float64{1, 1e-30, 1e30} {
		q := make([]float32, 128)
		for i := range q {
			q[i] = tensor.BF16Value(tensor.BF16Bits(float32(size * r.NormFloat64())))
		}
		for i, v := range ref.KVQuery(q, nil, false) {
			if v != q[i] {
				t.Fatalf("channel %d: %g became %g", i, q[i], v)
			}
		}
	}
	if got := ref.KVQuery(make([]float32, 64), nil, true); got[0] != 0 {
		t.Errorf("zero became %g", got[0])
	}
}

// No tokens: no output, not even the mean.
func TestDecodeAttendOfNothing(t *testing.T) {
	t.Parallel()
	o := []float64{1, 2}
	lse := ref.DecodeAttend(o, []float32{1, 1}, tensor.NewMatrix(0, 2), tensor.NewMatrix(0, 2), nil, []float32{3, 3}, 1)
	if !math.IsInf(lse, -1) || o[0] != 0 || o[1] != 0 {
		t.Errorf("found %v and %g", o, lse)
	}
}

// Both pairings turn by the same angle.
func TestRotatePairs(t *testing.T) {
	t.Parallel()
	cos, sin := []float32{0, 0.6}, []float32{1, 0.8}
	halves, neighbours := []float32{1, 2, 3, 4}, []float32{1, 3, 2, 4}
	ref.Rotate(halves, cos, sin, false)
	ref.Rotate(neighbours, cos, sin, true)
	if halves[0] != -3 || halves[2] != 1 || halves[0] != neighbours[0] || halves[1] != neighbours[2] || halves[2] != neighbours[1] || halves[3] != neighbours[3] {
		t.Errorf("halves %v, neighbours %v", halves, neighbours)
	}
}
