package packer

import (
	"fmt"
	"math"

	"quantize/internal/fault"
	"quantize/tensor"
)

// stripRows rows of a weight are rounded together: enough that a block of U is
// read rarely, and their errors are small beside the Hessian.
const stripRows = 256

// strip rounds some rows of a weight. It keeps two sets of them, stacked: the
// rows that are rounded, and the same rows rounded to nearest, for the report.
type strip struct {
	f       *Factor
	o       GPTQOptions
	weights []float32 // importance of the inputs, or nil

	w      tensor.Matrix // the rows
	groups int
	coders []groupCoder // (rows, groups)
	codes  []int8       // (rows, K)
	errors residuals    // (2·rows, K), in the factor's order
	sums   block64      // (2·rows, block): Σ_j (w_j-w'_j) U_ji
	rows   []gptqRow

	outputs outputs
}

type gptqRow struct {
	report      GPTQReport
	square, rtn float64 // sum (w-w')^2 of live columns, by either rounding
	err         error
}

func newStrip(f *Factor, o GPTQOptions, importance []float32, rows int) *strip {
	s := &strip{f: f, o: o, weights: importance, groups: f.K / o.GroupSize}
	s.coders = make([]groupCoder, rows*s.groups)
	s.codes = make([]int8, rows*f.K)
	s.errors = newResiduals(2*rows, f.K, o)
	s.sums = block64{make([]float64, 2*rows*o.BlockSize), o.BlockSize}
	s.rows = make([]gptqRow, rows)
	s.outputs = newOutputs(f, o, rows)
	return s
}

// round rounds w, rows first and on of out, and adds to report.
func (s *strip) round(w tensor.Matrix, first int, out *Int4Weight, report *GPTQReport) error {
	s.w = w
	clear(s.rows)
	overRows(w.Rows, func(next func() (int, bool)) {
		scales := &searcher{grid: s.o.Grid, group: s.o.GroupSize, weight: s.weights, plain: !s.o.Search, even: s.o.Even}
		best := rowScales{tables: make([]uint8, s.groups)}
		for n, ok := next(); ok; n, ok = next() {
			s.prepare(n, first+n, scales, &best, out.Scales[(first+n)*s.groups:][:s.groups])
		}
	})
	if err := s.failed(); err != nil {
		return err
	}
	for from := 0; from < s.f.K; from += s.o.BlockSize {
		to := min(from+s.o.BlockSize, s.f.K)
		s.errors.before(s.sums, s.f, 2*w.Rows, from, to)
		overRows(w.Rows, func(next func() (int, bool)) {
			for n, ok := next(); ok; n, ok = next() {
				s.block(n, from, to)
			}
		})
		s.compare(from, to)
	}
	if err := s.failed(); err != nil {
		return err
	}
	words := s.f.K / 8
	for n := range w.Rows {
		r := &s.rows[n]
		tensor.PackInt4(out.Codes[(first+n)*words:][:words], s.codes[n*s.f.K:][:s.f.K])
		report.Add(&r.report.Int4Report)
		report.Loss += r.report.Loss - s.f.ridge*r.square
		report.LossRTN += r.report.LossRTN - s.f.ridge*r.rtn
		report.Signal += r.report.Signal
		report.Cross += r.report.Cross
	}
	return nil
}

func (s *strip) failed() error {
	for n := range s.w.Rows {
		if err := s.rows[n].err; err != nil {
			return err
		}
	}
	return nil
}

// prepare chooses the scales of row n, called name in errors, and rounds it to
// nearest.
func (s *strip) prepare(n, name int, scales *searcher, best *rowScales, stored []uint16) {
	r, row := &s.rows[n], s.w.Row(n)
	if r.err = checkRow(row, name); r.err != nil {
		return
	}
	scales.run(row, best)
	r.report.Int4Report = best.report(row, s.o.GroupSize)
	s.outputs.set(n, row)
	coders := s.coders[n*s.groups:][:s.groups]
	for g, t := range best.tables {
		coders[g] = newGroupCoder(s.o.Grid, t, best.ch)
		stored[g] = coders[g].stored
	}
	for i, c := range s.f.order {
		if s.f.dead[i] {
			s.errors.set(s.w.Rows+n, i, 0)
			continue
		}
		x := row[c]
		coder := &coders[c/s.o.GroupSize]
		e := float64(x) - coder.value(coder.code(x))
		s.errors.set(s.w.Rows+n, i, e)
		r.rtn += float64(e * e)
	}
}

// block rounds columns [from, to) of row n, of which sums holds what the columns
// before ask for, and follows the errors of the nearest codes. sums then holds
// what is lost in each column.
func (s *strip) block(n, from, to int) {
	r, row := &s.rows[n], s.w.Row(n)
	if r.err != nil {
		return
	}
	sums, nearest := s.sums.row(n, 0, to-from), s.sums.row(s.w.Rows+n, 0, to-from)
	coders, codes := s.coders[n*s.groups:][:s.groups], s.codes[n*s.f.K:][:s.f.K]
	for i := from; i < to; i++ {
		c := s.f.order[i]
		x := float64(row[c])
		if s.f.dead[i] {
			codes[c] = 0
			r.report.SSE += float64(x * x)
			s.errors.set(n, i, 0)
			continue
		}
		v := x + sums[i-from]
		if !(math.Abs(v) < 2*largestWeight) {
			r.err = &fault.Error{
				Err: ErrInvalid, Where: fmt.Sprintf("compensated weight of input %d", c), Found: fmt.Sprint(v),
				Wanted: "a number below 2^101", Hint: "the Hessian is nearly singular: raise damp",
			}
			return
		}
		coder := &coders[c/s.o.GroupSize]
		q := coder.code(float32(v))
		codes[c] = q
		p := coder.value(q)
		if coder.clips(v, p) {
			r.report.ClippedCodes++
		}
		e, other := x-p, s.errors.get(s.w.Rows+n, i)
		s.errors.set(n, i, e)
		r.square += float64(e * e)
		r.report.SSE += float64(e * e)
		r.report.Rounded += float64(p * p)
		r.report.Loss += float64(s.f.d[i] * float64((v-p)*(v-p)))
		sums[i-from] = v - p // (e U)_i, for compare
		lost := other + nearest[i-from]
		r.report.LossRTN += float64(s.f.d[i] * float64(lost*lost))
		rest := s.f.h[i*s.f.K+i+1 : i*s.f.K+to]
		mine, theirs := sums[i-from+1:][:len(rest)], nearest[i-from+1:][:len(rest)]
		for j, u := range rest {
			mine[j] += float64(e * u)
			theirs[j] += float64(other * u)
		}
	}
}
