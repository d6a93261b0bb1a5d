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
	f      *Factor
	p      Propagation
	coding coding

	w      tensor.Matrix // the rows
	codes  []uint8       // (rows, K)
	errors residuals     // (2·rows, K), in the factor's order
	sums   block64       // (2·rows, block): Σ_j (w_j-w'_j) U_ji
	rows   []gptqRow

	outputs outputs
}

type gptqRow struct {
	report      GPTQReport
	square, rtn float64 // sum (w-w')^2 of live columns, by either rounding
	err         error
}

func newStrip(f *Factor, p Propagation, c coding, rows int) *strip {
	return &strip{
		f: f, p: p, coding: c,
		codes:   make([]uint8, rows*f.K),
		errors:  newResiduals(2*rows, f.K, p),
		sums:    block64{make([]float64, 2*rows*p.BlockSize), p.BlockSize},
		rows:    make([]gptqRow, rows),
		outputs: newOutputs(f, p, rows),
	}
}

// round rounds w, rows first and on of the weight, and adds to report.
func (s *strip) round(w tensor.Matrix, first int, report *GPTQReport) error {
	s.w = w
	clear(s.rows)
	s.coding.begin(first, w.Rows)
	overRows(w.Rows, func(next func() (int, bool)) {
		scale := s.coding.scaler()
		for n, ok := next(); ok; n, ok = next() {
			s.prepare(n, first+n, scale)
		}
	})
	if err := s.failed(); err != nil {
		return err
	}
	for from := 0; from < s.f.K; from += s.p.BlockSize {
		to := min(from+s.p.BlockSize, s.f.K)
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
	for n := range w.Rows {
		r := &s.rows[n]
		s.coding.store(n, s.codes[n*s.f.K:][:s.f.K])
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
func (s *strip) prepare(n, name int, scale scaler) {
	r, row := &s.rows[n], s.w.Row(n)
	if r.err = checkRow(row, name); r.err != nil {
		return
	}
	r.report.Int4Report = scale(n, row)
	s.outputs.set(n, row)
	for i, c := range s.f.order {
		if s.f.dead[i] {
			s.errors.set(s.w.Rows+n, i, 0)
			continue
		}
		x := row[c]
		_, p := s.coding.nearest(n, c, x)
		e := float64(x) - p
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
	codes := s.codes[n*s.f.K:][:s.f.K]
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
		q, p := s.coding.nearest(n, c, float32(v))
		codes[c] = q
		if s.coding.clips(n, c, v, p) {
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
