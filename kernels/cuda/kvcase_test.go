//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"quantize/kernels/ref"
	"quantize/tensor"
)

// kvCase is a cache with random contents, and queries.
type kvCase struct {
	layout           KVLayout
	lengths          []int
	kvHeads, queries int
	bf16, fp8        bool // type of queries and outputs, rounding of queries
	smooth           bool // key scales and both means
	outlier          float64
	chunk            int
}

func (c kvCase) String() string {
	return fmt.Sprintf("%v, lengths %v, %d x %d heads, bf16 %t, fp8 %t, smooth %t, outlier %g, chunk %d",
		c.layout, c.lengths, c.kvHeads, c.queries, c.bf16, c.fp8, c.smooth, c.outlier, c.chunk)
}

// kvOnDevice is a case on the card, with what its twin needs.
type kvOnDevice struct {
	kvCase
	cache         *KVCache
	records       []byte
	q             []float32
	kappa         []float32
	keyMean       []float32
	valueMean     []float32
	out, lse      output
	in            KVQueries
	owned         []Memory
	longest, rows int
}

// prepare builds the cache with the twin's codecs; what no token filled is 0xFF: NaN
// scales.
func (c kvCase) prepare(s *Session) (*kvOnDevice, error) {
	r := rand.New(rand.NewPCG(31, uint64(len(c.lengths)*100+c.queries)))
	k := &kvOnDevice{kvCase: c, rows: len(c.lengths) * c.kvHeads * c.queries}
	d := c.layout.HeadDim
	for _, n := range c.lengths {
		k.longest = max(k.longest, n)
	}
	var err error
	if k.cache, err = s.NewKVCache(c.layout, len(c.lengths), c.kvHeads, k.longest); err != nil {
		return nil, err
	}
	k.records = make([]byte, k.cache.Records.Bytes)
	for i := range k.records {
		k.records[i] = 0xFF
	}
	x := make([]float32, d)
	for b, n := range c.lengths {
		for h := range c.kvHeads {
			for token := range n {
				for _, values := range []bool{false, true} {
					for i := range x {
						x[i] = float32(r.NormFloat64())
					}
					if c.outlier != 0 {
						x[5] *= float32(c.outlier)
					}
					c.layout.Put(k.record(b, h, token), values, token%kvBlock, ref.EncodeCached(c.layout.scheme(), x))
				}
			}
		}
	}
	random := func(n int, f func() float64) []float32 {
		all := make([]float32, n)
		for i := range all {
			all[i] = float32(f())
		}
		return all
	}
	k.q = random(k.rows*d, r.NormFloat64)
	if c.smooth {
		k.kappa = random(c.kvHeads*d, func() float64 { return math.Exp(0.5 * r.NormFloat64()) })
		k.keyMean, k.valueMean = random(c.kvHeads*d, r.NormFloat64), random(c.kvHeads*d, r.NormFloat64)
	}
	k.in = KVQueries{
		BF16: c.bf16, Queries: c.queries, Longest: k.longest, Scale: float32(1 / math.Sqrt(float64(d))), FP8Queries: c.fp8, OutBF16: c.bf16, Chunk: c.chunk,
	}
	if err := Upload(s, k.cache.Records, k.records); err != nil {
		return nil, err
	}
	own := func(m Memory, e error) Memory {
		k.owned, err = append(k.owned, m), errors.Join(err, e)
		return m
	}
	if c.bf16 {
		bits := make([]uint16, len(k.q))
		for i, v := range k.q {
			bits[i] = tensor.BF16Bits(v)
			k.q[i] = tensor.BF16Value(bits[i])
		}
		k.in.Q = own(AllocOf(s, bits))
	} else {
		k.in.Q = own(AllocOf(s, k.q))
	}
	lengths := make([]int32, len(c.lengths))
	for i, n := range c.lengths {
		lengths[i] = int32(n)
	}
	k.in.Lengths = own(AllocOf(s, lengths))
	if c.smooth {
		k.in.KVSmoothing = KVSmoothing{own(AllocOf(s, k.kappa)), own(AllocOf(s, k.keyMean)), own(AllocOf(s, k.valueMean))}
	}
	size := 4
	if c.bf16 {
		size = 2
	}
	var e1, e2, e3 error
	k.out, e1 = s.newOutput(size * k.rows * d)
	k.lse, e2 = s.newOutput(4 * k.rows)
	k.in.Out, k.in.LSE = k.out.inner, k.lse.inner
	k.in.Scratch, e3 = s.NewKVScratch(k.cache, c.queries)
	return k, errors.Join(err, e1, e2, e3)
}

func (k *kvOnDevice) record(b, h, token int) []byte {
	size := k.layout.RecordBytes()
	at := (b*k.kvHeads+h)*k.cache.Capacity + token/kvBlock
	return k.records[at*size : (at+1)*size]
}

func (k *kvOnDevice) free(s *Session) error {
	err := errors.Join(k.cache.Free(s), k.in.Scratch.Free(s), s.Free(k.out.all), s.Free(k.lse.all))
	for _, m := range k.owned {
		err = errors.Join(err, s.Free(m))
	}
	return err
}

// run poisons the outputs, launches, and returns them as float32.
func (k *kvOnDevice) run(s *Session) (out, lse []float32, err error) {
	where := k.String()
	if err := errors.Join(k.out.reset(s), k.lse.reset(s), s.DecodeKV(k.cache, k.in, false), s.Wait(where)); err != nil {
		return nil, nil, err
	}
	if k.bf16 {
		bits, err := k.out.bf16(s, where+", outputs")
		if err != nil {
			return nil, nil, err
		}
		for _, b := range bits {
			out = append(out, tensor.BF16Value(b))
		}
	} else if out, err = k.out.float32s(s, where+", outputs"); err != nil {
		return nil, nil, err
	}
	lse, err = k.lse.float32s(s, where+", log-sums")
	return out, lse, err
}

// check compares every head with the twin: log-sums within 1e-3, cosine at least
// 0.9999 and norm within 1 %. worst are the largest distances seen.
func (k *kvOnDevice) check(out, lse []float32) (worst [2]float64, err error) {
	d := k.layout.HeadDim
	for b, n := range k.lengths {
		for h := range k.kvHeads {
			keys, values := tensor.NewMatrix(n, d), tensor.NewMatrix(n, d)
			for token := range n {
				k.layout.Get(k.record(b, h, token), false, token%kvBlock).Decode(keys.Row(token))
				k.layout.Get(k.record(b, h, token), true, token%kvBlock).Decode(values.Row(token))
			}
			of := func(x []float32) []float32 {
				if x == nil {
					return nil
				}
				return x[h*d : (h+1)*d]
			}
			for g := range k.queries {
				row := (b*k.kvHeads+h)*k.queries + g
				where := fmt.Sprintf("%v: sequence %d of %d tokens, KV head %d, query %d", k.kvCase, b, n, h, g)
				want := make([]float64, d)
				wantLSE := ref.DecodeAttend(want, ref.KVQuery(k.q[row*d:(row+1)*d], of(k.kappa), k.fp8), keys, values, of(k.keyMean), of(k.valueMean), float64(k.in.Scale))
				if n == 0 {
					if y := out[row*d : (row+1)*d]; !math.IsInf(float64(lse[row]), -1) || slices.ContainsFunc(y, func(v float32) bool { return v != 0 }) {
						return worst, wrong(where, fmt.Sprintf("%g, log-sum %g", y, lse[row]), "zeros, -Inf")
					}
					continue
				}
				off := math.Abs(float64(lse[row]) - wantLSE)
				if !(off <= 1e-3) {
					return worst, wrong(where, fmt.Sprintf("log-sum %g", lse[row]), fmt.Sprintf("%g", wantLSE))
				}
				one, xy, xx, yy, far, first := 0.0, 0.0, 0.0, 0.0, 0.0, 0
				for i, w := range want {
					v := float64(out[row*d+i])
					xy, xx, yy = xy+v*w, xx+v*v, yy+w*w
					if e := math.Abs(v - w); !(e <= far) {
						far, first = e, i
					}
				}
				one = 1 - xy/math.Sqrt(xx*yy)
				if !(one <= 1e-4 && math.Abs(math.Sqrt(xx/yy)-1) <= 1e-2) {
					return worst, wrong(where, fmt.Sprintf("cosine 1 - %.2g, norm times %.4g, channel %d is %g", one, math.Sqrt(xx/yy), first, out[row*d+first]),
						fmt.Sprintf("%g", want[first]))
				}
				worst[0], worst[1] = max(worst[0], off), max(worst[1], one)
			}
		}
	}
	return worst, nil
}
