package cpu

import (
	"fmt"
	"sync"

	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

var _ kernels.Attender = (*Compute)(nil)

// Attention computes quantized attention: the INT8, INT4 and FP8 modes of
// kernels.Attention, with every smoothing, granularity and mask. AttentionBF16
// ([Compute.Attend] computes it) and formats that read a cache are
// kernels.ErrUnsupported.
//
// Codes and scales are those of ref.RoundAttention, means and codes to the bit. A task is
// a head and a block of 128 queries; it walks tiles of 128 keys as
// ref.AttentionOperands.Attend does, in these steps of FP32:
//
//	S = q'·k'ᵀ + scale·ΔS           q' = code·(δq·scale), k' = code·δk: one product, scales inside
//	for each row: top' = max(top, S);  P = exp(S - top');  l = l·exp(top - top') + ΣP
//	              P8 = e4m3(448·P)/448;  o *= exp(top - top')
//	o += P8·v                       codes of v; the tile's sum starts at 0 and is added to o at its end
//	dst = o/l·δv + v̄
//
// The twin multiplies codes and scales afterwards: scores differ by at most
// (HeadDim + 4)·2^-24 of Σ|q'·k'|, and a probability whose neighbours in E4M3 are equally
// far may take the other one. Results do not depend on the number of workers.
func (c *Compute) Attention(dst, lse, q, k, v tensor.Matrix, a kernels.Attention) error {
	if err := a.Check(dst, lse, q, k, v); err != nil {
		return err
	}
	if a.Format.Mode == kernels.AttentionBF16 || a.Format.KV.Format != packer.KVNone {
		return &fault.Error{
			Err: kernels.ErrUnsupported, Where: "attention format", Found: fmt.Sprintf("%v, cache %v", a.Format.Mode, a.Format.KV.Format),
			Wanted: "int8-qk, int4-qk or fp8 without a cache",
		}
	}
	s := quantizedAttentions.Get().(*quantizedAttention)
	defer quantizedAttentions.Put(s)
	s.fit(c, a)
	s.quantize(c.workers, k, v)

	// The last queries see the most keys: they start first, so that no worker is left
	// with a large task at the end.
	blocks := (a.Queries + kernels.SmoothBlock - 1) / kernels.SmoothBlock
	parallel(c.workers, blocks*a.Batch*a.Heads, func(_, task int) {
		block, head := blocks-1-task/(a.Batch*a.Heads), task%(a.Batch*a.Heads)
		t := attentionTasks.Get().(*attentionTask)
		defer attentionTasks.Put(t)
		t.run(s, head/a.Heads, head%a.Heads, block*kernels.SmoothBlock, dst, lse, q)
	})
	return nil
}

// quantizedAttention is what all tasks of one call share.
type quantizedAttention struct {
	kern  *kernel
	a     kernels.Attention
	round func(dst, x *float32, n int, a, by float32) // nil: plain Go
	heads []quantizedHead                             // (Batch, KVHeads)

	memory []float32 // of the heads
	sums   []float64 // of their means
	zeros  []float32 // of a panel of scores
}

// quantizedHead are the keys and values of one KV head of a sequence.
type quantizedHead struct {
	keys   packed // (Keys, HeadDim): code·δ, in one block
	smooth packed // (Keys, HeadDim): k - k̄ as it is, for ΔS; nothing unless SmoothQ
	values packed // (HeadDim, Keys): codes, in blocks of kernels.KeyTile

	keyMeans, valueMeans []float32 // (HeadDim), zeros where none are taken off
	valueScales          []float32 // (HeadDim)
	sums                 []float64 // (2·HeadDim), of keys and of values
}

var (
	quantizedAttentions = sync.Pool{New: func() any { return new(quantizedAttention) }}
	attentionTasks      = sync.Pool{New: func() any { return new(attentionTask) }}
)

// fit divides the memory among the heads. It has seen other calls: what lies in the
// padding of the last panels ends in scores that are hidden and in channels that are
// not there.
func (s *quantizedAttention) fit(c *Compute, a kernels.Attention) {
	s.kern, s.a = c.kern, a
	_, s.round = tokenFuncsOf(c.kern.isa)
	d, wide := a.HeadDim, func(n int) int { return (n + s.kern.cols - 1) / s.kern.cols * s.kern.cols }
	keys, values, copies := wide(a.Keys)*d, a.Keys*wide(d), 1
	if a.Format.SmoothQ {
		copies = 2
	}
	each := (copies*keys + values + 3*d + 15) &^ 15
	s.memory = grow(s.memory, a.Batch*a.KVHeads*each)
	if n := a.Batch * a.KVHeads * 2 * d; cap(s.sums) < n {
		s.sums = make([]float64, n)
	}
	if len(s.zeros) < s.kern.cols {
		s.zeros = aligned(s.kern.cols)
	}
	s.heads = s.heads[:0]
	for n := range a.Batch * a.KVHeads {
		rest := s.memory[n*each : (n+1)*each]
		take := func(n int) (part []float32) {
			part, rest = rest[:n:n], rest[n:]
			return part
		}
		h := quantizedHead{
			keys:   packed{kern: s.kern, n: a.Keys, k: d, block: d, data: take(keys)},
			values: packed{kern: s.kern, n: d, k: a.Keys, block: kernels.KeyTile, data: take(values)},
			sums:   s.sums[n*2*d : (n+1)*2*d],
		}
		if copies == 2 {
			h.smooth = packed{kern: s.kern, n: a.Keys, k: d, block: d, data: take(keys)}
		}
		h.keyMeans, h.valueMeans, h.valueScales = take(d), take(d), take(d)
		s.heads = append(s.heads, h)
	}
}
