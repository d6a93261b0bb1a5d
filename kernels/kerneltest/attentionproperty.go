package kerneltest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/packer"
)

// properties runs what holds of attention whatever the format.
func (s *attentionSuite) properties(t *testing.T) {
	t.Helper()
	shape := kernels.Attention{Batch: 1, Heads: 4, KVHeads: 2, HeadDim: 64, Queries: 65, Keys: 150, Causal: true}
	s.outliers(t, shape)
	s.constantKeys(t, shape)
	s.commonBias(t, shape)
	s.zeros(t, shape)
	s.merging(t, shape)
	s.withoutLSE(t, shape)
	s.unseenNaN(t, shape)
}

// outliers makes one key channel 50 times the rest. What that costs is the format's
// affair; that of the rounded operands must be computed all the same.
func (s *attentionSuite) outliers(t *testing.T, a kernels.Attention) {
	t.Helper()
	c := s.prepare("a key channel 50 times the rest", a, func(_ *rand.Rand, c *attentionCase) {
		for j := range c.k.Rows {
			c.k.Row(j)[5] *= 50
		}
	})
	if s.run(t, c) {
		s.errors(t, c, s.probabilities())
	}
}

// constantKeys: equal keys give equal probabilities, which any format represents, so
// the output is the mean of the values that the format keeps.
func (s *attentionSuite) constantKeys(t *testing.T, a kernels.Attention) {
	t.Helper()
	c := s.prepare("constant keys", a, func(_ *rand.Rand, c *attentionCase) {
		for j := range c.k.Rows {
			copy(c.k.Row(j), c.k.Row(0))
		}
	})
	if !s.run(t, c) {
		return
	}
	s.errors(t, c, 1e-5)
}

// commonBias adds 1e3 to every key, of BF16 what leaves room for the rest: softmax does not
// see it, and neither does a format that takes a mean off.
func (s *attentionSuite) commonBias(t *testing.T, a kernels.Attention) {
	t.Helper()
	if f := s.format; f.Mode != kernels.AttentionBF16 && !f.SmoothK && f.KV.Format != packer.KVInt4 {
		return
	}
	bias, steps := float32(1000), 1024.0
	if s.narrow() {
		bias, steps = 8, 16 // BF16 has eight bits
	}
	add := func(by float32) *attentionCase {
		number := s.number
		c := s.prepare("common key bias", a, func(_ *rand.Rand, c *attentionCase) {
			c.a.KV.KeyMeans = slices.Clone(c.a.KV.KeyMeans)
			for j := range c.k.Rows {
				for i := range c.k.Row(j) {
					c.k.Row(j)[i] = float32(math.Round(float64(c.k.Row(j)[i])*steps)/steps) + by // exact
				}
			}
			for i, kappa := range c.a.KV.KeyScales {
				c.a.KV.KeyScales[i] = float32(math.Exp2(math.Round(math.Log2(float64(kappa)))))
				c.a.KV.KeyMeans[i] = by * c.a.KV.KeyScales[i]
			}
		})
		s.number = number // the same operands again
		return c
	}
	biased, plain := add(bias), add(0)
	s.number++
	if !s.run(t, biased) || !s.run(t, plain) {
		return
	}
	s.errors(t, biased, max(s.probabilities(), 2e-4)) // FP32 holds a score of 1e3 to 6e-5
	noise, signal := 0.0, 0.0
	for i := range plain.o.Rows {
		for c, want := range plain.o.Row(i) {
			d := float64(biased.o.Row(i)[c] - want)
			noise, signal = noise+d*d, signal+float64(want)*float64(want)
		}
	}
	// Scores of 1e3·Σq are held to 2^-24 of that where no mean is taken off; where one is,
	// rounding it moves a few codes and probabilities to their neighbours, which in INT4 are
	// eighteen times as far away.
	limit := 0.005 + s.coarse()
	if s.format.Mode == kernels.AttentionInt4 {
		limit *= 2
	}
	if !(relative(noise, signal) <= limit) {
		t.Errorf("%s: output moved by %.3g, want at most %.3g", biased.name, relative(noise, signal), limit)
	}
}

// zeros: all of a tile, then everything. A scale must not be 0/0.
func (s *attentionSuite) zeros(t *testing.T, a kernels.Attention) {
	t.Helper()
	some := s.prepare("a tile of zeros", a, func(_ *rand.Rand, c *attentionCase) {
		for n := range 64 {
			clear(c.q.Row(n))
		}
		for j := range 128 {
			clear(c.k.Row(j))
			clear(c.v.Row(j))
		}
	})
	if s.run(t, some) {
		s.errors(t, some, s.probabilities())
	}
	all := s.prepare("zeros", a, func(_ *rand.Rand, c *attentionCase) {
		for _, x := range []*operand{c.q, c.k, c.v} {
			for i := range x.Rows {
				clear(x.Row(i))
			}
		}
		c.a.KV.KeyMeans, c.a.KV.ValueMeans = nil, nil
	})
	if !s.run(t, all) {
		return
	}
	for i := range all.o.Rows {
		for c, o := range all.o.Row(i) {
			if o != 0 {
				t.Fatalf("%s: element (%d, %d) is %v", all.name, i, c, o)
			}
		}
		_, keys := a.KeyRange(i)
		for h, lse := range all.lse.Row(i) {
			if want := math.Log(float64(keys)); !(math.Abs(float64(lse)-want) <= 1e-5) {
				t.Fatalf("%s: lse (%d, %d) is %v, want ln %d = %v", all.name, i, h, lse, keys, want)
			}
		}
	}
}

// merging attends to the first 70 and the other keys apart and joins the two by their
// lse (docs/methods.md 5.2), as split-KV decoding does: a bound of the whole holds. The
// parts are views, so that the guards of the whole's keys and values watch both.
func (s *attentionSuite) merging(t *testing.T, a kernels.Attention) {
	t.Helper()
	a.Causal = false
	const cut = 70
	whole := s.prepare("two parts merged", a, nil)
	part := func(from, to int) *attentionCase {
		c := *whole
		c.a.Keys = to - from
		c.k, c.v = &operand{Matrix: whole.k.RowRange(from, to)}, &operand{Matrix: whole.v.RowRange(from, to)}
		c.o, c.lse = newOperand(c.q.Rows, c.q.Cols, 0), newOperand(c.q.Rows, a.Heads, 0)
		return &c
	}
	first, second := part(0, cut), part(cut, a.Keys)
	ran := s.run(t, first) && s.run(t, second)
	whole.k.unchanged(t, whole.name)
	whole.v.unchanged(t, whole.name)
	if !ran {
		return
	}
	for i := range whole.o.Rows {
		for h := range a.Heads {
			x, y := float64(first.lse.Row(i)[h]), float64(second.lse.Row(i)[h])
			weight := 1 / (1 + math.Exp(y-x))
			whole.lse.Row(i)[h] = float32(x + math.Log1p(math.Exp(y-x)))
			for c := h * a.HeadDim; c < (h+1)*a.HeadDim; c++ {
				whole.o.Row(i)[c] = float32(weight*float64(first.o.Row(i)[c]) + (1-weight)*float64(second.o.Row(i)[c]))
			}
		}
	}
	if e, limit := s.exactly(whole), s.format.worst+s.coarse(); !(e <= limit) {
		t.Errorf("%s: relative error %.3g, want at most %.3g", whole.name, e, limit)
	}
}

// exactly is the relative error to exact attention alone.
func (s *attentionSuite) exactly(c *attentionCase) float64 {
	a, noise, signal := c.a, 0.0, 0.0
	want := make([]float64, a.HeadDim)
	for h := range a.Heads {
		for i := range a.Queries {
			ref.ExactAttention(want, c.q.Matrix, c.k.Matrix, c.v.Matrix, a, 0, h, i)
			for n, w := range want {
				d := float64(c.o.Row(i)[h*a.HeadDim+n]) - w
				noise, signal = noise+d*d, signal+w*w
			}
		}
	}
	return relative(noise, signal)
}

// withoutLSE: the output is the same, to the bit, where lse is not wanted.
func (s *attentionSuite) withoutLSE(t *testing.T, a kernels.Attention) {
	t.Helper()
	c := s.prepare("no lse", a, nil)
	if !s.run(t, c) {
		return
	}
	with := c.o
	c.o, c.lse = newOperand(with.Rows, with.Cols, 3), newOperand(0, 0, 0)
	if !s.run(t, c) {
		t.Fatalf("%s: not supported without lse", c.name)
	}
	equal(t, c.name, c.o, with)
}

// unseenNaN: a key and a value that no query sees yet reach nothing, unless a scale or a
// mean of their channel is taken over them. A NarrowAttention need not take a NaN: to a
// tensor core the probability 0 times NaN is NaN.
func (s *attentionSuite) unseenNaN(t *testing.T, a kernels.Attention) {
	t.Helper()
	if s.narrow() {
		return
	}
	if f := s.format; f.KV.Format == packer.KVNone && (f.Mode != kernels.AttentionBF16 || f.SmoothK || f.SmoothV) {
		return
	}
	a.Queries = a.Keys
	c := s.prepare("NaN in the last token", a, func(_ *rand.Rand, c *attentionCase) {
		last := c.k.Rows - 1
		c.k.Row(last)[3], c.v.Row(last)[3] = float32(math.NaN()), float32(math.NaN())
	})
	if !s.run(t, c) {
		return
	}
	for i := range c.o.Rows {
		if last := i == c.o.Rows-1; math.IsNaN(float64(c.o.Row(i)[3])) != last {
			t.Fatalf("%s: output of token %d is %v", c.name, i, c.o.Row(i)[3])
		}
	}
}
