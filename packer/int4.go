package packer

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/tensor"
)

// ErrInvalid marks a weight or a quantized checkpoint that cannot be used. It is
// also a [checkpoint.ErrInvalid].
var ErrInvalid = fmt.Errorf("invalid quantization: %w", checkpoint.ErrInvalid)

// ErrOption marks an option that does not fit: a group size, a grid, a scheme.
var ErrOption = errors.New("invalid option")

// Int4Options says how a weight is rounded to INT4.
type Int4Options struct {
	GroupSize      int       // 128, 64 or 32 weights of one row share a scale; must divide K
	Grid           Grid      // the products the codes are chosen against
	Search         bool      // search row factor and scales for the least error; else amax/7 on the nearest grid point
	Even           bool      // the search counts an error the same whatever the weight, as GPTQ does, which makes up for it; else those of large weights more
	Importance     []float32 // per input channel, length K; h_j of the search, which minimises sum_j h_j (1+|w_j|/rms) (w_j-w'_j)^2. nil: all alike
	FP8Activations bool      // the result's scheme rounds activations to FP8 (W4A8)
}

// Int4Report says what rounding one weight, or several added up, cost.
type Int4Report struct {
	Rows         int     `json:"rows"`
	Groups       int     `json:"groups"`
	SSE          float64 `json:"sse"`           // sum (w-w')^2 in the grid's arithmetic
	Energy       float64 `json:"energy"`        // sum w^2
	Rounded      float64 `json:"rounded"`       // sum w'^2
	FloorRows    int     `json:"floor_rows"`    // rows whose chan is the floor: less FP8 range
	LiftedGroups int     `json:"lifted_groups"` // groups whose scale was raised to s8 = 2^-6
	ClippedCodes int     `json:"clipped_codes"` // weights more than half a step beyond the last product
}

// SNR returns 10 log10(Energy/SSE) in dB; +Inf when nothing was lost.
func (r *Int4Report) SNR() float64 { return snr(r.SSE, r.Energy) }

// Add adds the figures of another weight to r.
func (r *Int4Report) Add(o *Int4Report) {
	r.Rows += o.Rows
	r.Groups += o.Groups
	r.SSE += o.SSE
	r.Energy += o.Energy
	r.Rounded += o.Rounded
	r.FloorRows += o.FloorRows
	r.LiftedGroups += o.LiftedGroups
	r.ClippedCodes += o.ClippedCodes
}

// largestWeight keeps every product and every squared error away from overflow.
const largestWeight = 0x1p100

// QuantizeInt4 rounds w (N, K) to the nearest products of o.Grid. It reads w
// only. Rows are shared out over GOMAXPROCS goroutines; the result does not
// depend on their number. Bad options are ErrOption, non-finite or absurdly large
// weights (2^100 and more) ErrInvalid.
func QuantizeInt4(w tensor.Matrix, o Int4Options) (*Int4Weight, *Int4Report, error) {
	importance, err := o.check(w)
	if err != nil {
		return nil, nil, err
	}
	groups := w.Cols / o.GroupSize
	out := newInt4(w, o)
	rows := make([]Int4Report, w.Rows)
	bad := make([]error, w.Rows)
	overRows(w.Rows, func(next func() (int, bool)) {
		s := &searcher{grid: o.Grid, group: o.GroupSize, weight: importance, plain: !o.Search, even: o.Even}
		best := rowScales{tables: make([]uint8, groups)}
		codes := make([]int8, w.Cols)
		for n, ok := next(); ok; n, ok = next() {
			row := w.Row(n)
			if bad[n] = checkRow(row, n); bad[n] != nil {
				continue
			}
			s.run(row, &best)
			encodeRow(row, codes, out.Scales[n*groups:][:groups], o, &best, &rows[n])
			tensor.PackInt4(out.Codes[n*w.Cols/8:][:w.Cols/8], codes)
		}
	})
	report := &Int4Report{}
	for n := range rows {
		if bad[n] != nil {
			return nil, nil, bad[n]
		}
		report.Add(&rows[n])
	}
	return out, report, nil
}

// newInt4 returns an empty weight of w's shape.
func newInt4(w tensor.Matrix, o Int4Options) *Int4Weight {
	return &Int4Weight{
		N: w.Rows, K: w.Cols, GroupSize: o.GroupSize,
		Codes:          make([]uint32, w.Rows*w.Cols/8),
		Scales:         make([]uint16, w.Rows*w.Cols/o.GroupSize),
		FP8Activations: o.FP8Activations,
	}
}

// check validates o for w and returns the importance scaled to a maximum of 1.
func (o Int4Options) check(w tensor.Matrix) ([]float32, error) {
	switch {
	case !o.Grid.known():
		return nil, &fault.Error{Err: ErrOption, Where: "grid", Found: o.Grid.String(), Wanted: strings.Join(gridNames[GridLUT:], ", ")}
	case o.GroupSize != 128 && o.GroupSize != 64 && o.GroupSize != 32:
		return nil, &fault.Error{Err: ErrOption, Where: "group size", Found: fmt.Sprint(o.GroupSize), Wanted: "128, 64 or 32"}
	case w.Rows == 0 || w.Cols == 0 || w.Cols%o.GroupSize != 0:
		return nil, &fault.Error{
			Err: ErrOption, Where: "weight",
			Found: fmt.Sprintf("%dx%d", w.Rows, w.Cols), Wanted: fmt.Sprintf("input features divisible by the group size %d", o.GroupSize),
		}
	case o.Importance == nil:
		return nil, nil
	case len(o.Importance) != w.Cols:
		return nil, &fault.Error{
			Err: ErrOption, Where: "importance",
			Found: fmt.Sprintf("%d channels", len(o.Importance)), Wanted: fmt.Sprintf("%d, the input features", w.Cols),
		}
	}
	var top float32
	for j, h := range o.Importance {
		if !(h >= 0 && h <= math.MaxFloat32) {
			return nil, &fault.Error{Err: ErrOption, Where: fmt.Sprintf("importance of input channel %d", j), Found: fmt.Sprint(h), Wanted: "a finite number >= 0"}
		}
		top = max(top, h)
	}
	if top == 0 {
		return nil, nil // nothing is known: all alike
	}
	scaled := make([]float32, len(o.Importance))
	for j, h := range o.Importance {
		scaled[j] = h / top
	}
	return scaled, nil
}

func checkRow(row []float32, n int) error {
	for k, x := range row {
		if !(x > -largestWeight && x < largestWeight) {
			return &fault.Error{
				Err: ErrInvalid, Where: fmt.Sprintf("weight[%d, %d]", n, k),
				Found: fmt.Sprint(x), Wanted: "a finite number below 2^100", Hint: "the checkpoint is damaged, or a transform overflowed",
			}
		}
	}
	return nil
}

// overRows runs work on GOMAXPROCS goroutines; next hands each row out once.
func overRows(rows int, work func(next func() (int, bool))) {
	var at atomic.Int64
	next := func() (int, bool) {
		n := int(at.Add(1) - 1)
		return n, n < rows
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), rows) {
		wg.Go(func() { work(next) })
	}
	wg.Wait()
}
