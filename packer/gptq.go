package packer

import (
	"fmt"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/tensor"
)

// Propagation says how the errors of columns are carried to those that follow.
type Propagation struct {
	// MatMulT forms the products with the columns behind a block in FP32, several
	// times faster; nil: FP64, in which BlockSize does not change a bit. It must
	// be safe for concurrent use if linears are rounded concurrently.
	MatMulT   calibrate.MatMulT
	BlockSize int // columns between two products; 0: 128
}

// GPTQOptions says how a weight is rounded to INT4 with error propagation. Even is
// set; Importance only weighs the search of the scales; the codes follow the Hessian.
type GPTQOptions struct {
	Int4Options
	Propagation
}

// GPTQReport says what rounding one weight cost. The figures of Int4Report are
// those of the weight itself, w-w' after all propagation; ClippedCodes counts
// compensated weights. An FP8 weight has no groups and no floor.
type GPTQReport struct {
	Int4Report
	Damp        float64 `json:"damp"`         // fraction of the mean diagonal that was added
	DeadColumns int     `json:"dead_columns"` // inputs that were always zero; their codes are 0
	Loss        float64 `json:"loss"`         // tr((W-W')H(W-W')ᵀ) with the undamped H: the squared error of the outputs over the calibration tokens
	LossRTN     float64 `json:"loss_rtn"`     // the same of the nearest codes under the same scales
	Signal      float64 `json:"signal"`       // tr(WHWᵀ): the outputs themselves, squared
	Cross       float64 `json:"cross"`        // tr(WH(W-W')ᵀ)
}

const defaultBlock = 128

// QuantizeGPTQ rounds w (N, K), whose inputs have the Hessian that f was made
// of, column by column, and makes up for each column's error in those that
// follow (GPTQ, arXiv 2210.17323; the form is LDLQ's, see [Factor]):
//
//	for the columns i in the factor's order:
//	    v_i  = w_i + Σ_{j<i} (w_j-w'_j) U_ji
//	    w'_i = the product of o.Grid nearest to v_i
//
// chan and scales are chosen on w as it is, before the first column, and stay
// (methods.md 4.3): else the row maximum, and with it every scale, would move at
// load. w is read only. Rows are shared out over GOMAXPROCS goroutines; the
// result does not depend on their number. Errors are those of [QuantizeInt4],
// and ErrOption when f is of another K.
func QuantizeGPTQ(w tensor.Matrix, f *Factor, o GPTQOptions) (*Int4Weight, *GPTQReport, error) {
	o.Even = true
	importance, err := o.check(w)
	if err != nil {
		return nil, nil, err
	}
	out := newInt4(w, o.Int4Options)
	report, err := propagate(w, f, o.Propagation, newInt4Coding(out, o.Int4Options, importance))
	if err != nil {
		return nil, nil, err
	}
	return out, report, nil
}

// QuantizeGPTQFP8 rounds w (N, K) as [QuantizeGPTQ] does, to E4M3 under the scales of
// [QuantizeFP8]. The scales leave no headroom: a compensated weight beyond the largest
// of its row is clipped to it. Errors are those of QuantizeFP8, and ErrOption when f
// is of another K.
func QuantizeGPTQFP8(w tensor.Matrix, f *Factor, p Propagation) (*FP8Weight, *GPTQReport, error) {
	out, err := newFP8(w)
	if err != nil {
		return nil, nil, err
	}
	report, err := propagate(w, f, p, &fp8Coding{out: out})
	if err != nil {
		return nil, nil, err
	}
	return out, report, nil
}

// propagate rounds w to what c says, one strip of rows after the other.
func propagate(w tensor.Matrix, f *Factor, p Propagation, c coding) (*GPTQReport, error) {
	switch {
	case f.K != w.Cols:
		return nil, &fault.Error{Err: ErrOption, Where: "Hessian", Found: fmt.Sprintf("%d inputs", f.K), Wanted: fmt.Sprintf("%d, the input features", w.Cols)}
	case p.BlockSize < 0:
		return nil, &fault.Error{Err: ErrOption, Where: "block size", Found: fmt.Sprint(p.BlockSize), Wanted: "a positive number of columns"}
	case p.BlockSize == 0:
		p.BlockSize = defaultBlock
	}
	s := newStrip(f, p, c, min(w.Rows, stripRows))
	report := &GPTQReport{Damp: f.Damp, DeadColumns: f.DeadColumns}
	for from := 0; from < w.Rows; from += stripRows {
		to := min(from+stripRows, w.Rows)
		if err := s.round(w.RowRange(from, to), from, report); err != nil {
			return nil, err
		}
	}
	report.Loss, report.LossRTN = max(report.Loss, 0), max(report.LossRTN, 0)
	return report, nil
}
