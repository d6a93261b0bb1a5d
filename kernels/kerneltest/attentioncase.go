package kerneltest

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"quantize/kernels"
	"quantize/kernels/ref"
	"quantize/packer"
	"quantize/tensor"
)

// attentionSuite runs cases of one format.
type attentionSuite struct {
	implementation kernels.Attender
	format         attentionFormat
	number         int // of the last case; its seed
	ran, skipped   int
	// The largest of any case: error to the exact attention of N(0,1), to that of the
	// rounded operands, and of lse to the latter's.
	exact, rounded, lse float64
	// Over all cases of N(0,1), squared and relative to their case.
	noise float64
	cases int
}

func (s *attentionSuite) seed() *rand.Rand {
	s.number++
	return seeded(s.number)
}

// attentionCase is a call with guarded operands.
type attentionCase struct {
	name            string
	a               kernels.Attention
	q, k, v, o, lse *operand
}

// prepare makes a case of N(0,1) operands; edit may change them.
func (s *attentionSuite) prepare(name string, a kernels.Attention, edit func(r *rand.Rand, c *attentionCase)) *attentionCase {
	r := s.seed()
	a.Scale, a.Format = scaleOf(a), s.format.AttentionFormat
	some := kind{"normal", normal}
	n, m := a.Heads*a.HeadDim, a.KVHeads*a.HeadDim
	c := &attentionCase{
		a: a, q: filled(r, a.Batch*a.Queries, n, s.number%3, some),
		k: filled(r, a.Batch*a.Keys, m, s.number%2, some), v: filled(r, a.Batch*a.Keys, m, s.number%5, some),
		o: newOperand(a.Batch*a.Queries, n, s.number%4), lse: newOperand(a.Batch*a.Queries, a.Heads, s.number%3),
		name: fmt.Sprintf("%s: %d x (%d queries, %d keys), %d heads on %d, size %d, causal %v, window %d",
			name, a.Batch, a.Queries, a.Keys, a.Heads, a.KVHeads, a.HeadDim, a.Causal, a.Window),
	}
	if a.Format.KV.Format != packer.KVNone {
		c.a.KV = kvParams(r, m)
	}
	if edit != nil {
		edit(r, c)
	}
	for _, x := range []*operand{c.q, c.k, c.v} {
		if s.narrow() {
			roundBF16(x)
		}
		x.freeze()
	}
	return c
}

func (s *attentionSuite) narrow() bool {
	_, ok := s.implementation.(NarrowAttention)
	return ok
}

func roundBF16(x *operand) {
	for i := range x.Rows {
		for c, v := range x.Row(i) {
			x.Row(i)[c] = tensor.BF16Value(tensor.BF16Bits(v))
		}
	}
}

// kvParams are a layer's numbers for N(0,1) keys and values.
func kvParams(r *rand.Rand, channels int) kernels.KVParams {
	p := kernels.KVParams{
		KeyScales: make([]float32, channels), KeyMeans: make([]float32, channels), ValueMeans: make([]float32, channels),
		KScale: 6.0 / 448, VScale: 5.0 / 448,
	}
	for i := range channels {
		p.KeyScales[i] = float32(math.Exp(0.2 * r.NormFloat64()))
		p.KeyMeans[i], p.ValueMeans[i] = float32(0.1*r.NormFloat64()), float32(0.1*r.NormFloat64())
	}
	return p
}

// run computes a case and reports whether it was supported: guards and inputs must be
// as they were, and lse must not change dst.
func (s *attentionSuite) run(t *testing.T, c *attentionCase) bool {
	t.Helper()
	err := s.implementation.Attention(c.o.Matrix, c.lse.Matrix, c.q.Matrix, c.k.Matrix, c.v.Matrix, c.a)
	if errors.Is(err, kernels.ErrUnsupported) {
		s.skipped++
		return false
	}
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	s.ran++
	for _, x := range []*operand{c.q, c.k, c.v} {
		x.unchanged(t, c.name)
	}
	c.o.contained(t, c.name)
	c.lse.contained(t, c.name)
	return true
}

// normal runs a case of N(0,1) operands and holds it to the bounds of the format.
func (s *attentionSuite) normal(t *testing.T, name string, a kernels.Attention) {
	t.Helper()
	if s.format.Hadamard && bits.OnesCount(uint(a.HeadDim)) != 1 {
		return
	}
	c := s.prepare(name, a, nil)
	if !s.run(t, c) {
		return
	}
	e := s.errors(t, c, s.probabilities())
	if e == (attentionErrors{}) {
		return // no query sees a key
	}
	s.exact, s.noise, s.cases = max(s.exact, e.exact), s.noise+e.exact*e.exact, s.cases+1
	if limit := s.format.worst + s.coarse(); !(e.exact <= limit) {
		t.Errorf("%s: relative error %.3g to exact attention, want at most %.3g", c.name, e.exact, limit)
	}
}

// coarse is the relative error that an implementation adds to the twin's.
func (s *attentionSuite) coarse() float64 {
	if c, ok := s.implementation.(CoarseAttention); ok {
		return c.AttentionError(s.format.AttentionFormat)
	}
	return 0
}

// finish prints the largest errors. A format of which nothing ran is skipped; whether the
// implementation must have it is for RunAttention's caller to say.
func (s *attentionSuite) finish(t *testing.T) {
	t.Helper()
	if s.ran == 0 {
		t.Skipf("%d cases, none supported", s.skipped)
	}
	mean := math.Sqrt(s.noise / float64(s.cases))
	if limit := s.format.mean + s.coarse(); s.cases > 0 && !(mean <= limit) {
		t.Errorf("relative error %.4g to exact attention over %d cases of N(0,1), want at most %.3g", mean, s.cases, limit)
	}
	t.Logf("%d calls, %d not supported; relative error to exact attention of N(0,1) %.4g, of a case at most %.4g; to that of the rounded operands %.3g, lse %.2g",
		s.ran, s.skipped, mean, s.exact, s.rounded, s.lse)
}

// attentionErrors are relative L2 errors over a case.
type attentionErrors struct{ exact, rounded float64 }

// oracleRows is how many queries of a sequence are held to float64; of more, a sample.
const oracleRows = 300

// errors compares a case to float64 and fails where it is further than limit from the
// attention of the rounded operands, or a query without keys has not 0 and -Inf.
func (s *attentionSuite) errors(t *testing.T, c *attentionCase, limit float64) attentionErrors {
	t.Helper()
	a, d := c.a, c.a.HeadDim
	op := ref.RoundAttention(c.q.Matrix, c.k.Matrix, c.v.Matrix, a)
	exact, rounded := make([]float64, d), make([]float64, d)
	var toExact, toRounded, sizeExact, sizeRounded float64
	slack := s.scoreSlack(op)
	step := max(1, a.Queries/oracleRows)
	for n := 0; n < a.Batch*a.Heads*a.Queries; n += step {
		b, h, i := n/a.Queries/a.Heads, n/a.Queries%a.Heads, n%a.Queries
		lse := ref.ExactAttention(exact, c.q.Matrix, c.k.Matrix, c.v.Matrix, a, b, h, i)
		roundedLSE := roundedAttention(rounded, op, b, h, i)
		got, row := c.o.Row(b*a.Queries + i)[h*d:(h+1)*d], float64(c.lse.Row(b*a.Queries + i)[h])
		if math.IsInf(lse, -1) && !math.IsInf(row, -1) {
			t.Fatalf("%s: query %d of head %d sees nothing: lse %v", c.name, i, h, row)
		}
		for col, g := range got {
			g, e, w := float64(g), exact[col], rounded[col]
			if math.IsInf(lse, -1) && g != 0 {
				t.Fatalf("%s: query %d of head %d sees nothing: output %v", c.name, i, h, g)
			}
			toExact, toRounded = toExact+(g-e)*(g-e), toRounded+(g-w)*(g-w)
			sizeExact, sizeRounded = sizeExact+e*e, sizeRounded+w*w
		}
		if !math.IsInf(lse, -1) {
			// FP32 holds a large lse to 2^-24 of it, and its terms q·k̄ likewise.
			off := math.Abs(row-roundedLSE) / max(1, math.Abs(roundedLSE)*0x1p-6)
			s.lse = max(s.lse, off)
			if !(off <= 1e-3+slack) {
				t.Fatalf("%s: query %d of head %d: lse %v, want %v", c.name, i, h, row, roundedLSE)
			}
		}
	}
	e := attentionErrors{exact: relative(toExact, sizeExact), rounded: relative(toRounded, sizeRounded)}
	s.rounded = max(s.rounded, e.rounded)
	if limit += s.coarse() + slack; !(e.rounded <= limit) {
		t.Errorf("%s: relative error %.3g to the attention of the rounded operands, want at most %.3g", c.name, e.rounded, limit)
	}
	return e
}

// scoreSlack is what CoarseScores allows of a case: by the largest product of a channel's
// largest query and key, which bounds those of every score.
func (s *attentionSuite) scoreSlack(op *ref.AttentionOperands) float64 {
	a := op.Attention
	c, ok := s.implementation.(CoarseScores)
	if !ok {
		return 0
	}
	largest := 0.0
	q, k := channelTops(op.Q, op.QScales, a.HeadDim), channelTops(op.K, op.KScales, a.HeadDim)
	for i, x := range q {
		h, channel := i/a.HeadDim, i%a.HeadDim
		largest = max(largest, x*k[h/(a.Heads/a.KVHeads)*a.HeadDim+channel])
	}
	return c.ScoreError(a.Format, a.HeadDim) * largest * math.Abs(float64(a.Scale))
}

// channelTops are the largest magnitudes of codes times scales, by column of codes.
func channelTops(codes, scales tensor.Matrix, d int) []float64 {
	tops := make([]float64, codes.Cols)
	for i := range codes.Rows {
		for c, x := range codes.Row(i) {
			tops[c] = max(tops[c], math.Abs(float64(x)*float64(scales.Row(i)[c/d])))
		}
	}
	return tops
}

// probabilities is what rounding them to E4M3 costs; in FP32, nothing but roundings.
func (s *attentionSuite) probabilities() float64 {
	if s.format.Mode == kernels.AttentionBF16 {
		return 2e-6
	}
	return 0.03
}

// relative is the root of noise/signal; of no signal, 0 for no noise.
func relative(noise, signal float64) float64 {
	if noise == 0 {
		return 0
	}
	return math.Sqrt(noise / signal)
}

// roundedAttention is the formula of ref.AttentionOperands in float64.
func roundedAttention(o []float64, op *ref.AttentionOperands, b, h, i int) (lse float64) {
	a, d := op.Attention, op.Attention.HeadDim
	g, query := h/(a.Heads/a.KVHeads), b*a.Queries+i
	block := b*((a.Queries+kernels.SmoothBlock-1)/kernels.SmoothBlock) + i/kernels.SmoothBlock
	lse = ref.ExactSoftmax(o, a, b, h, i, func(j int) float64 {
		sum, key := 0.0, op.K.Row(b*a.Keys + j)[g*d:(g+1)*d]
		for c, q := range op.Q.Row(query)[h*d : (h+1)*d] {
			sum += float64(q) * float64(key[c])
		}
		sum *= float64(op.QScales.Row(query)[h]) * float64(op.KScales.Row(b*a.Keys + j)[g])
		if op.DeltaS.Rows > 0 {
			sum += float64(op.DeltaS.Row(block*a.Heads + h)[j])
		}
		return float64(a.Scale) * sum
	}, func(j int) []float32 { return op.V.Row(b*a.Keys + j)[g*d : (g+1)*d] })
	if math.IsInf(lse, -1) {
		return lse
	}
	for c := range o {
		o[c] = o[c]*float64(op.VScales.Row(b)[g*d+c]) + float64(op.VMeans.Row(b)[g*d+c])
	}
	return lse + float64(op.Shift.Row(query)[h])
}
