package packer

import (
	"math"

	"quantize/tensor"
)

// coding is what the rows of a weight are rounded to: their scales, and the products
// that their codes stand for. Rows of a strip are used concurrently.
type coding interface {
	// begin takes a strip: so many rows, from row first of the weight.
	begin(first, rows int)
	// scaler returns a function for one goroutine.
	scaler() scaler
	// nearest returns the code whose product is nearest to x in column c of row n of the
	// strip, and the product.
	nearest(n, c int, x float32) (code uint8, product float64)
	// clips reports whether v lies more than half a step beyond its product p.
	clips(n, c int, v, p float64) bool
	// store writes the codes (K) of row n of the strip.
	store(n int, codes []uint8)
}

// scaler settles the scales of row n of a strip, and returns the figures that follow
// from them alone.
type scaler func(n int, row []float32) Int4Report

// int4Coding rounds to the products of a grid. Codes are two's complement.
type int4Coding struct {
	out        *Int4Weight
	o          Int4Options
	importance []float32 // of the inputs, or nil
	groups     int

	first  int
	coders []groupCoder // (rows, groups)
	signed []int8       // (K)
}

func newInt4Coding(out *Int4Weight, o Int4Options, importance []float32) *int4Coding {
	return &int4Coding{out: out, o: o, importance: importance, groups: out.K / o.GroupSize, signed: make([]int8, out.K)}
}

func (c *int4Coding) begin(first, rows int) {
	c.first = first
	if c.coders == nil {
		c.coders = make([]groupCoder, rows*c.groups)
	}
}

func (c *int4Coding) scaler() scaler {
	s := &searcher{grid: c.o.Grid, group: c.o.GroupSize, weight: c.importance, plain: !c.o.Search, even: c.o.Even}
	best := rowScales{tables: make([]uint8, c.groups)}
	return func(n int, row []float32) Int4Report {
		s.run(row, &best)
		stored := c.out.Scales[(c.first+n)*c.groups:][:c.groups]
		for g, t := range best.tables {
			coder := newGroupCoder(c.o.Grid, t, best.ch)
			c.coders[n*c.groups+g], stored[g] = coder, coder.stored
		}
		return best.report(row, c.o.GroupSize)
	}
}

func (c *int4Coding) coder(n, column int) *groupCoder {
	return &c.coders[n*c.groups+column/c.o.GroupSize]
}

func (c *int4Coding) nearest(n, column int, x float32) (uint8, float64) {
	coder := c.coder(n, column)
	q := coder.code(x)
	return uint8(q), coder.value(q)
}

func (c *int4Coding) clips(n, column int, v, p float64) bool { return c.coder(n, column).clips(v, p) }

func (c *int4Coding) store(n int, codes []uint8) {
	for k, q := range codes {
		c.signed[k] = int8(q)
	}
	words := c.out.K / 8
	tensor.PackInt4(c.out.Codes[(c.first+n)*words:][:words], c.signed)
}

// fp8Coding rounds to E4M3 times the scale of a row.
type fp8Coding struct {
	out   *FP8Weight
	first int
}

func (c *fp8Coding) begin(first, _ int) { c.first = first }

func (c *fp8Coding) scaler() scaler {
	return func(n int, row []float32) Int4Report {
		c.out.Scales[c.first+n] = fp8Scale(row)
		r := Int4Report{Rows: 1}
		for _, x := range row {
			r.Energy += float64(float64(x) * float64(x))
		}
		return r
	}
}

func (c *fp8Coding) nearest(n, _ int, x float32) (uint8, float64) {
	scale := c.out.Scales[c.first+n]
	q := tensor.E4M3(x / scale)
	return q, float64(tensor.E4M3Value(q) * scale)
}

// clips: the last step of E4M3 is 32.
func (c *fp8Coding) clips(n, _ int, v, p float64) bool {
	return math.Abs(v)-math.Abs(p) > 16*float64(c.out.Scales[c.first+n])
}

func (c *fp8Coding) store(n int, codes []uint8) {
	copy(c.out.Codes[(c.first+n)*c.out.K:][:c.out.K], codes)
}
