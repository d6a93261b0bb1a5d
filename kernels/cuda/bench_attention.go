//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/tensor"
)

// AttentionTiming is the speed of one attention, and what it costs in accuracy.
type AttentionTiming struct {
	Kernel  string  `json:"kernel"`
	Batch   int     `json:"batch"`
	Tokens  int     `json:"tokens"` // queries and keys of a sequence
	Heads   int     `json:"heads"`
	KVHeads int     `json:"kv_heads"`
	HeadDim int     `json:"head_dim"`
	Causal  bool    `json:"causal"`
	US      float64 `json:"us"`       // microseconds, of rounded keys and values
	USWhole float64 `json:"us_whole"` // rounding them included
	TFLOPS  float64 `json:"tflops"`   // whole; causal counts half
	Cosine  float64 `json:"cosine"`   // of a sample of queries, to float64
	L1      float64 `json:"l1"`       // relative, the same
}

// AttentionShape is a line of the benchmark: Batch sequences of Tokens tokens.
type AttentionShape struct {
	Batch, Tokens, HeadDim int
	Causal                 bool
}

// AttentionShapes are timed with 32 heads on 8: 16384 tokens or 32768, D 128 and 64.
var AttentionShapes = []AttentionShape{
	{16, 1024, 128, false},
	{8, 2048, 128, true},
	{4, 4096, 128, false},
	{4, 4096, 128, true},
	{1, 16384, 128, false},
	{1, 16384, 128, true},
	{1, 32768, 128, true},
	{8, 2048, 64, true},
	{4, 4096, 64, false},
	{1, 16384, 64, true},
}

// attentionCopies of all operands take turns: of 16384 tokens one is larger than the L2 cache.
const attentionCopies = 2

// AttentionBench has N(0,1) operands of one shape on the card.
type AttentionBench struct {
	session *Session
	prefill *Prefill
	bits    [3][]uint16 // q, k, v
	inputs  [attentionCopies][3]Memory
	o       [attentionCopies]Memory
}

// NewAttentionBench prepares a in its format.
func (s *Session) NewAttentionBench(shape AttentionShape, f kernels.AttentionFormat) (*AttentionBench, error) {
	a := kernels.Attention{
		Batch: shape.Batch, Heads: 32, KVHeads: 8, HeadDim: shape.HeadDim, Queries: shape.Tokens, Keys: shape.Tokens, Causal: shape.Causal,
		Scale: float32(1 / math.Sqrt(float64(shape.HeadDim))), Format: f,
	}
	p, err := s.NewPrefill(a)
	if err != nil {
		return nil, err
	}
	b := &AttentionBench{session: s, prefill: p}
	r := rand.New(rand.NewPCG(13, uint64(shape.HeadDim)))
	tokens := a.Batch * a.Queries
	for i, n := range []int{tokens * a.Heads * a.HeadDim, tokens * a.KVHeads * a.HeadDim, tokens * a.KVHeads * a.HeadDim} {
		b.bits[i] = make([]uint16, n)
		const period = 1<<20 - 1 // no row divides it
		for at := range min(n, period) {
			b.bits[i][at] = tensor.BF16Bits(float32(r.NormFloat64()))
		}
		for at := period; at < n; {
			at += copy(b.bits[i][at:], b.bits[i][:at])
		}
		for c := range attentionCopies {
			if b.inputs[c][i], err = AllocOf(s, b.bits[i]); err != nil {
				return nil, errors.Join(err, b.Free())
			}
		}
	}
	for c := range attentionCopies {
		if b.o[c], err = s.Alloc(2 * len(b.bits[0])); err != nil {
			return nil, errors.Join(err, b.Free())
		}
	}
	return b, nil
}

// Free gives the memory back.
func (b *AttentionBench) Free() error {
	err := b.prefill.Free(b.session)
	for c := range attentionCopies {
		for _, m := range append(b.inputs[c][:], b.o[c]) {
			err = errors.Join(err, b.session.Free(m))
		}
	}
	return err
}

// run attends with copy c, and rounds its keys and values before that if whole.
func (b *AttentionBench) run(c int, whole bool) error {
	in := b.inputs[c]
	if whole {
		if err := b.session.RoundKeys(b.prefill, in[1], in[2], true); err != nil {
			return err
		}
	}
	return b.session.AttendPrefill(b.prefill, b.o[c], Memory{}, in[0], true)
}

// Time checks the result against float64 and measures it.
func (b *AttentionBench) Time() (*AttentionTiming, error) {
	a := b.prefill.Attention
	t := &AttentionTiming{
		Kernel: b.prefill.kernel(), Batch: a.Batch, Tokens: a.Queries, Heads: a.Heads, KVHeads: a.KVHeads, HeadDim: a.HeadDim, Causal: a.Causal,
	}
	var err error
	if t.Cosine, t.L1, err = b.accuracy(); err != nil {
		return nil, err
	}
	if !(t.Cosine >= leastCosine) {
		return nil, wrong(b.prefill.where(), fmt.Sprintf("cosine %.5f to float64", t.Cosine), fmt.Sprintf("at least %v", leastCosine))
	}
	flop := 4 * float64(a.Batch) * float64(a.Heads) * float64(a.Queries) * float64(a.Keys) * float64(a.HeadDim)
	if a.Causal {
		flop /= 2
	}
	if t.USWhole, err = b.median(flop, true); err != nil {
		return nil, err
	}
	if t.US, err = b.median(flop, false); err != nil {
		return nil, err
	}
	t.TFLOPS = flop / t.USWhole / 1e6
	return t, nil
}

// leastCosine is below what FP8 scores, probabilities and values cost on N(0,1).
const leastCosine = 0.998

// median is microseconds of one attention: 21 runs of a graph, after work that brings the
// card to its power limit, as [Bench.Time] does.
func (b *AttentionBench) median(flop float64, whole bool) (float64, error) {
	s := b.session
	const rate = 6e14 // operations a second, about
	launches := attentionCopies * max(1, int(1e-3*rate/flop))
	g, err := s.Capture(func() error {
		for i := range launches {
			if err := b.run(i%attentionCopies, whole); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = g.destroy() }()
	replay := func() error { return s.Replay(g) }
	for range max(2, int(math.Ceil(warmSeconds*rate/(float64(launches)*flop)))) {
		if err := replay(); err != nil {
			return 0, err
		}
	}
	times := make([]time.Duration, 21)
	for i := range times {
		if times[i], err = s.Time(replay); err != nil {
			return 0, err
		}
	}
	slices.Sort(times)
	return times[len(times)/2].Seconds() * 1e6 / float64(launches), nil
}

// accuracy compares 48 queries, spread over sequences, heads and places, with float64.
func (b *AttentionBench) accuracy() (cosine, l1 float64, err error) {
	a := b.prefill.Attention
	o := make([]uint16, len(b.bits[0]))
	if err := errors.Join(b.run(0, true), Download(b.session, o, b.o[0])); err != nil {
		return 0, 0, err
	}
	d, r := a.HeadDim, rand.New(rand.NewPCG(14, 1))
	want, query, row := make([]float64, d), make([]float32, d), make([]float32, d)
	var product, square, wantSquare, off, size float64
	for range 48 {
		at := r.IntN(a.Batch * a.Queries * a.Heads) // (sequence, query, head)
		batch, i, h := at/a.Heads/a.Queries, at/a.Heads%a.Queries, at%a.Heads
		from := func(bits []uint16, j int) []float32 {
			return bf16Row(row, bits[((batch*a.Keys+j)*a.KVHeads+h/(a.Heads/a.KVHeads))*d:])
		}
		bf16Row(query, b.bits[0][at*d:])
		ref.ExactSoftmax(want, a, batch, h, i, func(j int) float64 {
			s := 0.0
			for c, k := range from(b.bits[1], j) {
				s += float64(query[c]) * float64(k)
			}
			return float64(a.Scale) * s
		}, func(j int) []float32 { return from(b.bits[2], j) })
		for c, w := range want {
			g := float64(tensor.BF16Value(o[at*d+c]))
			product, square, wantSquare = product+g*w, square+g*g, wantSquare+w*w
			off, size = off+math.Abs(g-w), size+math.Abs(w)
		}
	}
	return product / math.Sqrt(square*wantSquare), off / size, nil
}

// bf16Row reads the beginning of bits into row.
func bf16Row(row []float32, bits []uint16) []float32 {
	for c := range row {
		row[c] = tensor.BF16Value(bits[c])
	}
	return row
}
