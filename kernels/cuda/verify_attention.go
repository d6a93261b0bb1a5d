//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/tensor"
)

// prefillShapes are lengths at the edges of tiles and of a block's 192 queries, grouped-query
// ratios 1, 4 and 8, queries that see nothing, windows, masks that leave tiles out, and more
// items than a card has multiprocessors.
func prefillShapes() []kernels.Attention {
	var all []kernels.Attention
	for _, d := range []int{64, 128} {
		for _, n := range []int{1, 63, 64, 65, 127, 128, 129, 191, 193} {
			all = append(all,
				kernels.Attention{Batch: 1, Heads: 4, KVHeads: 1, HeadDim: d, Queries: n, Keys: n, Causal: true},
				kernels.Attention{Batch: 2, Heads: 2, KVHeads: 2, HeadDim: d, Queries: n, Keys: n})
		}
		all = append(all,
			kernels.Attention{Batch: 1, Heads: 8, KVHeads: 1, HeadDim: d, Queries: 1, Keys: 129, Causal: true},
			kernels.Attention{Batch: 1, Heads: 8, KVHeads: 1, HeadDim: d, Queries: 200, Keys: 1000, Causal: true},
			kernels.Attention{Batch: 1, Heads: 4, KVHeads: 1, HeadDim: d, Queries: 300, Keys: 100, Causal: true},
			kernels.Attention{Batch: 1, Heads: 1, KVHeads: 1, HeadDim: d, Queries: 70, Keys: 0},
			kernels.Attention{Batch: 1, Heads: 2, KVHeads: 1, HeadDim: d, Queries: 1000, Keys: 1000, Causal: true, Window: 200},
			kernels.Attention{Batch: 1, Heads: 2, KVHeads: 1, HeadDim: d, Queries: 700, Keys: 700, Causal: true, Window: 1},
			kernels.Attention{Batch: 5, Heads: 32, KVHeads: 4, HeadDim: d, Queries: 200, Keys: 200, Causal: true},
			kernels.Attention{Batch: 1, Heads: 2, KVHeads: 1, HeadDim: d, Queries: 4097, Keys: 4097, Causal: true},
			withMask(kernels.Attention{Batch: 1, Heads: 4, KVHeads: 2, HeadDim: d, Queries: 1000, Keys: 4500, Causal: true}, 64, 128),
			withMask(kernels.Attention{Batch: 2, Heads: 2, KVHeads: 2, HeadDim: d, Queries: 500, Keys: 700}, 128, 256))
	}
	return all
}

// withMask keeps a third of the blocks, none of the second row and none of the third column.
func withMask(a kernels.Attention, queries, keys int) kernels.Attention {
	r := rand.New(rand.NewPCG(23, uint64(a.Keys)))
	rows, cols := ceilDiv(a.Queries, queries), ceilDiv(a.Keys, keys)
	m := &kernels.BlockMask{QueryBlock: queries, KeyBlock: keys, Keep: make([]bool, a.Batch*a.Heads*rows*cols)}
	for n := range m.Keep {
		m.Keep[n] = r.IntN(3) == 0 && n/cols%rows != 1 && n%cols != 2
	}
	a.Mask = m
	return a
}

func checkAttention(s *Session) error {
	var faults []error
	for i, a := range prefillShapes() {
		for n, f := range prefillFormats() {
			if (n+i)%3 != 0 {
				continue // a third of the formats a shape, by turns
			}
			a.Format, a.Scale = f, float32(1/math.Sqrt(float64(a.HeadDim)))
			faults = append(faults, s.checkAttention(rand.New(rand.NewPCG(21, uint64(i))), a))
		}
	}
	return errors.Join(faults...)
}

// prefillBound is the relative error of a format on N(0,1): a quarter more than kerneltest's
// for a case, since some here are of eight queries.
func prefillBound(m kernels.AttentionMode) float64 {
	return map[kernels.AttentionMode]float64{kernels.AttentionInt8: 0.05, kernels.AttentionFP8: 0.08, kernels.AttentionInt4: 0.31}[m]
}

// checkAttention holds outputs between guards, poisoned before, to float64: a sample of 64
// queries over all heads, of which those that see nothing give 0 and -Inf. Their squares are
// summed, so that queries that see few keys weigh most; kerneltest holds every one, and lse.
func (s *Session) checkAttention(r *rand.Rand, a kernels.Attention) error {
	where := fmt.Sprintf("%+v", a)
	if a.Mask != nil {
		where = fmt.Sprintf("mask of %d x %d, ", a.Mask.QueryBlock, a.Mask.KeyBlock) + where
	}
	t, err := s.newAttentionTrial(r, a)
	if err != nil {
		return err
	}
	y, lse, err := t.run(s, where, true)
	if err = errors.Join(err, t.free(s)); err != nil {
		return err
	}
	rows := a.Batch * a.Heads * a.Queries
	step := max(1, rows/64) | 1
	type sum struct {
		noise, signal float64
		err           error
	}
	sums := make([]sum, ceilDiv(rows, step))
	var group sync.WaitGroup
	for i := range sums {
		group.Go(func() { sums[i].noise, sums[i].signal, sums[i].err = t.errorOf(a, where, i*step, y, lse) })
	}
	group.Wait()
	noise, signal := 0.0, 0.0
	for _, x := range sums {
		if x.err != nil {
			return x.err
		}
		noise, signal = noise+x.noise, signal+x.signal
	}
	if limit := prefillBound(a.Format.Mode); !(math.Sqrt(noise) <= limit*math.Sqrt(signal)) {
		return wrong(where, fmt.Sprintf("a relative error of %.3g", math.Sqrt(noise/signal)), fmt.Sprintf("at most %.3g", limit))
	}
	return nil
}

// errorOf compares query n of (Batch, Heads, Queries) with float64: the squares of the error
// and of what is right.
func (t *attentionTrial) errorOf(a kernels.Attention, where string, n int, y []uint16, lse []float32) (noise, signal float64, err error) {
	d, want := a.HeadDim, make([]float64, a.HeadDim)
	b, h, i := n/a.Queries/a.Heads, n/a.Queries%a.Heads, n%a.Queries
	log := ref.ExactAttention(want, t.operands[0], t.operands[1], t.operands[2], a, b, h, i)
	at := (b*a.Queries+i)*a.Heads + h
	if math.IsInf(log, -1) != math.IsInf(float64(lse[at]), -1) {
		return 0, 0, wrong(where, fmt.Sprintf("lse %v of query %d, head %d", lse[at], i, h), fmt.Sprint(log))
	}
	for c, w := range want {
		off := float64(tensor.BF16Value(y[at*d+c])) - w
		if math.IsInf(log, -1) && off != 0 {
			return 0, 0, wrong(where, fmt.Sprintf("output %v of query %d, head %d, which sees no key", off, i, h), "0")
		}
		noise, signal = noise+off*off, signal+w*w
	}
	return noise, signal, nil
}

// attentionTrial is an attention with its operands and guarded outputs on the card.
type attentionTrial struct {
	operands [3]tensor.Matrix // q, k, v
	inputs   [3]Memory
	prefill  *Prefill
	o, lse   output
}

// newAttentionTrial draws N(0,1) in BF16 numbers.
func (s *Session) newAttentionTrial(r *rand.Rand, a kernels.Attention) (*attentionTrial, error) {
	prefill, err := s.NewPrefill(a)
	if err != nil {
		return nil, err
	}
	t := &attentionTrial{prefill: prefill}
	for i, n := range []int{a.Batch * a.Queries * a.Heads, a.Batch * a.Keys * a.KVHeads, a.Batch * a.Keys * a.KVHeads} {
		heads := a.KVHeads
		if i == 0 {
			heads = a.Heads
		}
		t.operands[i] = tensor.NewMatrix(n/heads, heads*a.HeadDim)
		for at := range t.operands[i].Data {
			t.operands[i].Data[at] = tensor.BF16Value(tensor.BF16Bits(float32(r.NormFloat64())))
		}
		if t.inputs[i], err = AllocOf(s, bf16Of(t.operands[i])); err != nil {
			return nil, errors.Join(err, t.free(s))
		}
	}
	rows := a.Batch * a.Queries * a.Heads
	if t.o, err = s.newOutput(2 * rows * a.HeadDim); err != nil {
		return nil, errors.Join(err, t.free(s))
	}
	if t.lse, err = s.newOutput(4 * rows); err != nil {
		return nil, errors.Join(err, t.free(s))
	}
	return t, nil
}

func (t *attentionTrial) free(s *Session) error {
	return errors.Join(t.prefill.Free(s), s.Free(t.inputs[0]), s.Free(t.inputs[1]), s.Free(t.inputs[2]), s.Free(t.o.all), s.Free(t.lse.all))
}

// run rounds and attends anew into poisoned memory.
func (t *attentionTrial) run(s *Session, where string, dependent bool) (y []uint16, lse []float32, err error) {
	if err := errors.Join(t.o.reset(s), t.lse.reset(s)); err != nil {
		return nil, nil, err
	}
	if err := s.RoundKeys(t.prefill, t.inputs[1], t.inputs[2], dependent); err != nil {
		return nil, nil, err
	}
	if err := s.AttendPrefill(t.prefill, t.o.inner, t.lse.inner, t.inputs[0], dependent); err != nil {
		return nil, nil, err
	}
	if y, err = t.o.bf16(s, where); err != nil {
		return nil, nil, err
	}
	lse, err = t.lse.float32s(s, where)
	return y, lse, err
}

// checkAttentionDeterminism launches each kernel fifty times, half of them early.
func checkAttentionDeterminism(s *Session) error {
	var faults []error
	for _, d := range []int{64, 128} {
		for _, mode := range []kernels.AttentionMode{kernels.AttentionInt8, kernels.AttentionFP8} {
			a := kernels.Attention{
				Batch: 2, Heads: 32, KVHeads: 8, HeadDim: d, Queries: 400, Keys: 900, Causal: true, Scale: 0.1,
				Format: kernels.AttentionFormat{Mode: mode, Granularity: kernels.PerThread, SmoothK: true, SmoothV: true, Hadamard: mode == kernels.AttentionInt8},
			}
			faults = append(faults, s.sameAttention(a, 50))
		}
	}
	return errors.Join(faults...)
}

func (s *Session) sameAttention(a kernels.Attention, launches int) (err error) {
	where := fmt.Sprintf("%+v", a)
	t, err := s.newAttentionTrial(rand.New(rand.NewPCG(22, uint64(a.HeadDim))), a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.free(s)) }()
	y, lse, err := t.run(s, where, false)
	if err != nil {
		return err
	}
	for n := range launches {
		again, logs, err := t.run(s, where, n%2 == 0)
		if err != nil {
			return err
		}
		if !slices.Equal(y, again) || !slices.Equal(lse, logs) {
			return wrong(where, fmt.Sprintf("other bits in launch %d", n), "the same")
		}
	}
	return nil
}
