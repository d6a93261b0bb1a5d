//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/tensor"
)

// cachedBound is the relative error of attention over a cache beside its twin. Both round
// probabilities to E4M3, at 0.025 each, but of other maxima: the twin begins with the first
// tile, the kernel with the last.
const cachedBound = 0.04

// checkCachedAttention attends over caches of every layout, and fifty times.
func checkCachedAttention(s *Session) error {
	var faults []error
	for _, l := range kvLayouts() {
		faults = append(faults, s.checkCached(l, 50))
	}
	return errors.Join(faults...)
}

// checkCached holds AttendCached to its twin and launches it again and again. Tokens fill a
// cache but for 20 of its last record; two sequences, three query heads a KV head, smoothing.
func (s *Session) checkCached(l KVLayout, launches int) (err error) {
	a := kernels.Attention{
		Batch: 2, Heads: 6, KVHeads: 2, HeadDim: l.HeadDim, Queries: 150, Keys: 300, Causal: true, Scale: float32(1 / math.Sqrt(float64(l.HeadDim))),
		Format: kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: l.scheme()},
	}
	a.Format.KV.FP8Queries = true
	where := "cache " + l.String()
	r := rand.New(rand.NewPCG(41, uint64(l.RecordBytes())))
	random := func(rows, cols int) tensor.Matrix {
		x := tensor.NewMatrix(rows, cols)
		for i := range x.Data {
			x.Data[i] = tensor.BF16Value(tensor.BF16Bits(float32(r.NormFloat64())))
		}
		return x
	}
	n, m := a.Heads*l.HeadDim, a.KVHeads*l.HeadDim
	q, k, v := random(a.Batch*a.Queries, n), random(a.Batch*a.Keys, m), random(a.Batch*a.Keys, m)
	a.KV = kernels.KVParams{KeyScales: random(1, m).Data, KeyMeans: random(1, m).Data, ValueMeans: random(1, m).Data}
	for i, x := range a.KV.KeyScales {
		a.KV.KeyScales[i] = float32(math.Exp(0.3 * float64(x)))
	}
	want, logs := tensor.NewMatrix(q.Rows, n), tensor.NewMatrix(q.Rows, a.Heads)
	if err := (&ref.Compute{}).Attention(want, logs, q, k, v, a); err != nil {
		return err
	}

	var owned []Memory
	defer func() {
		for _, x := range owned {
			err = errors.Join(err, s.Free(x))
		}
	}()
	own := func(x Memory, e error) Memory {
		owned, err = append(owned, x), errors.Join(err, e)
		return x
	}
	cache, err := s.NewKVCache(l, a.Batch, a.KVHeads, a.Keys)
	if err != nil {
		return err
	}
	own(cache.Records, s.Fill(cache.Records, 0xFF)) // NaN scales where no token is
	smoothing := KVSmoothing{own(AllocOf(s, a.KV.KeyScales)), own(AllocOf(s, a.KV.KeyMeans)), own(AllocOf(s, a.KV.ValueMeans))}
	added := NewKV{
		K: own(AllocOf(s, bf16Of(k))), V: own(AllocOf(s, bf16Of(v))), BF16: true, Tokens: a.Keys,
		Starts: own(AllocOf(s, make([]int32, a.Batch))), KVSmoothing: smoothing,
	}
	in := CachedQueries{Q: own(AllocOf(s, bf16Of(q))), Heads: a.Heads, Queries: a.Queries, Tokens: a.Keys, Causal: true, Scale: a.Scale, KVSmoothing: smoothing}
	o, e := s.newOutput(2 * len(want.Data))
	own(o.all, e)
	lse, e := s.newOutput(4 * len(logs.Data))
	own(lse.all, e)
	in.O, in.LSE = o.inner, lse.inner
	if err = errors.Join(err, s.AppendKV(cache, added, false)); err != nil {
		return err
	}
	var first []uint16
	for launch := range launches {
		if err := errors.Join(o.reset(s), lse.reset(s), s.AttendCached(cache, in, launch%2 == 1)); err != nil {
			return err
		}
		y, err := o.bf16(s, where)
		if err != nil {
			return err
		}
		if launch == 0 {
			first = y
			continue
		}
		if !slices.Equal(first, y) {
			return wrong(where, fmt.Sprintf("other bits in launch %d", launch), "the same")
		}
	}
	got, err := lse.float32s(s, where)
	if err != nil {
		return err
	}
	for i, x := range got {
		if !(math.Abs(float64(x-logs.Data[i])) <= 1e-3) {
			return wrong(where, fmt.Sprintf("lse %v of query %d, head %d", x, i/a.Heads, i%a.Heads), fmt.Sprint(logs.Data[i]))
		}
	}
	noise, signal := 0.0, 0.0
	for i, bits := range first {
		off := float64(tensor.BF16Value(bits) - want.Data[i])
		noise, signal = noise+off*off, signal+float64(want.Data[i])*float64(want.Data[i])
	}
	if !(math.Sqrt(noise) <= cachedBound*math.Sqrt(signal)) {
		return wrong(where, fmt.Sprintf("a relative error of %.3g", math.Sqrt(noise/signal)), fmt.Sprintf("at most %.3g", cachedBound))
	}
	return nil
}
