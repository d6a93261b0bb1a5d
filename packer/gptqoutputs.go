package packer

import (
	"math"

	"quantize/calibrate"
	"quantize/tensor"
)

// outputs compares the outputs of some rows before and after rounding on the
// calibration tokens X, whose H = XᵀX the factor is of. For weights w and errors
// e = w-w' of a row, and U and D of [Factor],
//
//	w H' eᵀ = Σ_i d_i (w U)_i (e U)_i
//
// so that ‖X wᵀ‖² and its product with the error take w U alone beside what the
// rounding has: one triangular product. It is formed apart from that of the
// errors, so that no code can depend on it.
type outputs struct {
	f       *Factor
	product calibrate.MatMulT // nil: plain Go
	whole   tensor.Matrix     // (rows, K): w in the factor's order, 0 where an input is dead
	columns []float32         // (block, K): columns of U, one a row
	folded  []float32         // (rows, block): w U
}

func newOutputs(f *Factor, p Propagation, rows int) outputs {
	block := min(p.BlockSize, f.K)
	return outputs{
		f: f, product: p.MatMulT, whole: tensor.NewMatrix(rows, f.K),
		columns: make([]float32, block*f.K), folded: make([]float32, rows*block),
	}
}

// set takes row n of the weight.
func (o *outputs) set(n int, row []float32) {
	to := o.whole.Row(n)
	for i, c := range o.f.order {
		if to[i] = row[c]; o.f.dead[i] {
			to[i] = 0
		}
	}
}

// fold returns w U of the columns [from, to).
func (o *outputs) fold(rows, from, to int) tensor.Matrix {
	u := tensor.MatrixOf(to-from, to, o.columns[:(to-from)*to])
	transposeColumns(u.Data, o.f, to, from, to)
	dst, w := tensor.MatrixOf(rows, to-from, o.folded[:rows*(to-from)]), o.whole.RowRange(0, rows).ColRange(0, to)
	if o.product != nil {
		o.product(dst, w, u)
		return dst
	}
	overRows(rows, func(next func() (int, bool)) {
		for n, ok := next(); ok; n, ok = next() {
			calibrate.PlainMatMulT(dst.RowRange(n, n+1), w.RowRange(n, n+1), u)
		}
	})
	return dst
}

// compare adds columns [from, to) of the rows that block has just rounded; sums
// holds their (e U)_i by now.
func (s *strip) compare(from, to int) {
	folded := s.outputs.fold(s.w.Rows, from, to)
	for n := range s.w.Rows {
		r, row := &s.rows[n].report, s.outputs.whole.Row(n)
		lost := s.sums.row(n, 0, to-from)
		for i, x := range folded.Row(n) {
			if s.f.dead[from+i] {
				continue
			}
			// The damping that H' has beyond H is taken off again.
			w, e, d := float64(row[from+i]), s.errors.get(n, from+i), s.f.d[from+i]
			r.Signal += float64(d*float64(float64(x)*float64(x))) - float64(s.f.ridge*float64(w*w))
			r.Cross += float64(d*float64(float64(x)*lost[i])) - float64(s.f.ridge*float64(w*e))
		}
	}
}

// OutputSNR returns 10 log10(‖X Wᵀ‖²/‖X (W-W')ᵀ‖²), the outputs' signal over
// their error on the calibration tokens X, in dB: 10 log10(tr(W H Wᵀ)/Loss) with
// H = XᵀX. +Inf when nothing was lost, NaN when there were no outputs to lose.
func (r *GPTQReport) OutputSNR() float64 {
	if !(r.Signal > 0) {
		return math.NaN()
	}
	return 10 * math.Log10(r.Signal/r.Loss)
}

// OutputCosine returns the cosine of all outputs on the calibration tokens before
// and after rounding, Σ O·O' / (‖O‖ ‖O'‖) (methods.md 0.3), which is
//
//	tr(W H W'ᵀ) / √(tr(W H Wᵀ) tr(W' H W'ᵀ))
//
// NaN when all of either are zero.
func (r *GPTQReport) OutputCosine() float64 {
	// W' = W-E gives both traces from those of W and E.
	both, rounded := r.Signal-r.Cross, r.Signal-2*r.Cross+r.Loss
	if !(r.Signal > 0 && rounded > 0) {
		return math.NaN()
	}
	return max(-1, min(1, both/math.Sqrt(r.Signal*rounded)))
}

// digits4 rounds to four significant digits, nil for what JSON cannot hold: more
// would tell sums of other processors apart.
func digits4(x float64) *float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return nil
	}
	if x != 0 {
		// Scaled up where it is below 1: a power of ten is exact, its inverse not.
		if e := 3 - int(math.Floor(math.Log10(math.Abs(x)))); e >= 0 {
			x = math.Round(x*math.Pow10(e)) / math.Pow10(e)
		} else {
			x = math.Round(x/math.Pow10(-e)) * math.Pow10(-e)
		}
	}
	return &x
}
