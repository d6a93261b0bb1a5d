package packer

import (
	"math"

	"quantize/tensor"
)

// groupCoder turns weights of one group into codes.
type groupCoder struct {
	table    *codeTable
	products [16]float32 // of the codes -8..7 in the grid's arithmetic
	perUnit  float32     // half-ulps in 1
	half     float64     // half a step
	stored   uint16      // the scale as it is written, BF16
}

func newGroupCoder(grid Grid, t uint8, ch float32) groupCoder {
	s8 := 8 * tensor.E4M3Value(t)
	stored := tensor.BF16Bits(s8 * ch)
	return groupCoder{
		table:    &codeTables[grid-1][significand(t)],
		products: Products(grid.Arithmetic(), stored, tensor.E4M3(s8), ch),
		perUnit:  1 / grid.halfUlp(t, ch),
		half:     float64(s8*ch) / 2,
		stored:   stored,
	}
}

// code returns the code of the product nearest to x.
func (c *groupCoder) code(x float32) int8 {
	return c.table.code[span+int(max(min(x*c.perUnit, span-1), -span))]
}

// value returns the product of code q.
func (c *groupCoder) value(q int8) float64 { return float64(c.products[q+8]) }

// clips reports whether x lies more than half a step beyond its product p.
func (c *groupCoder) clips(x, p float64) bool { return math.Abs(x)-math.Abs(p) > c.half }

// encodeRow finds the codes of a row under the scales chosen, and stores these.
func encodeRow(row []float32, codes []int8, scales []uint16, o Int4Options, best *rowScales, r *Int4Report) {
	*r = best.report(row, o.GroupSize)
	for g, t := range best.tables {
		coder := newGroupCoder(o.Grid, t, best.ch)
		scales[g] = coder.stored
		from := g * o.GroupSize
		out := codes[from:][:o.GroupSize]
		var sse, rounded float64
		for j, x := range row[from:][:o.GroupSize] {
			q := coder.code(x)
			out[j] = q
			p := coder.value(q)
			d := float64(x) - p
			sse += float64(d * d)
			rounded += float64(p * p)
			if coder.clips(float64(x), p) {
				r.ClippedCodes++
			}
		}
		r.SSE += sse
		r.Rounded += rounded
	}
}

// report gives the figures of a row that its scales settle.
func (b *rowScales) report(row []float32, group int) Int4Report {
	r := Int4Report{Rows: 1, Groups: len(b.tables)}
	if b.floor {
		r.FloorRows = 1
	}
	for g, t := range b.tables {
		var energy, amax float64
		for _, x := range row[g*group:][:group] {
			energy += float64(float64(x) * float64(x))
			amax = max(amax, math.Abs(float64(x)))
		}
		if t == lifted && amax/7 < float64(8*tensor.E4M3Value(t)*b.ch) {
			r.LiftedGroups++
		}
		r.Energy += energy
	}
	return r
}
