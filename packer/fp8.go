package packer

import (
	"fmt"
	"math"

	"quantize/internal/fault"
	"quantize/tensor"
)

// FP8Report says what rounding one weight to FP8 cost.
type FP8Report struct {
	Rows    int     `json:"rows"`
	SSE     float64 `json:"sse"`     // sum (w-w')^2
	Energy  float64 `json:"energy"`  // sum w^2
	Rounded float64 `json:"rounded"` // sum w'^2
}

// SNR returns 10 log10(Energy/SSE) in dB; +Inf when nothing was lost.
func (r *FP8Report) SNR() float64 { return snr(r.SSE, r.Energy) }

func snr(sse, energy float64) float64 {
	if sse == 0 {
		return math.Inf(1)
	}
	return 10 * math.Log10(energy/sse)
}

// cosine is Σww'/√(Σw²Σw'²), of which the sum of products follows from the others;
// NaN when either is all zeros.
func cosine(sse, energy, rounded float64) float64 {
	if !(energy > 0 && rounded > 0) {
		return math.NaN()
	}
	return max(-1, min(1, (energy+rounded-sse)/2/math.Sqrt(energy*rounded)))
}

// QuantizeFP8 rounds w (N, K) to E4M3 with one FP32 scale per output channel,
// amax/448 (compressed-tensors' FP8_DYNAMIC; activations are scaled per token at
// run time). A row of zeros, or one so small that its scale would be subnormal,
// gets the smallest normal scale. Non-finite or absurdly large weights (2^100
// and more) are ErrInvalid.
func QuantizeFP8(w tensor.Matrix) (*FP8Weight, *FP8Report, error) {
	out, err := newFP8(w)
	if err != nil {
		return nil, nil, err
	}
	rows := make([]FP8Report, w.Rows)
	bad := make([]error, w.Rows)
	overRows(w.Rows, func(next func() (int, bool)) {
		for n, ok := next(); ok; n, ok = next() {
			row := w.Row(n)
			if bad[n] = checkRow(row, n); bad[n] == nil {
				out.Scales[n] = encodeFP8(out.Codes[n*w.Cols:][:w.Cols], row, &rows[n])
			}
		}
	})
	report := &FP8Report{Rows: w.Rows}
	for n := range rows {
		if bad[n] != nil {
			return nil, nil, bad[n]
		}
		report.SSE += rows[n].SSE
		report.Energy += rows[n].Energy
		report.Rounded += rows[n].Rounded
	}
	return out, report, nil
}

// newFP8 returns an empty weight of w's shape.
func newFP8(w tensor.Matrix) (*FP8Weight, error) {
	if w.Rows == 0 || w.Cols == 0 {
		return nil, &fault.Error{Err: ErrInvalid, Where: "weight", Found: fmt.Sprintf("%dx%d", w.Rows, w.Cols), Wanted: "rows and columns"}
	}
	return &FP8Weight{N: w.Rows, K: w.Cols, Codes: make([]uint8, w.Rows*w.Cols), Scales: make([]float32, w.Rows)}, nil
}

func fp8Scale(row []float32) float32 {
	var amax float32
	for _, x := range row {
		amax = max(amax, float32(math.Abs(float64(x))))
	}
	return max(amax/tensor.MaxE4M3, 0x1p-126)
}

func encodeFP8(codes []uint8, row []float32, r *FP8Report) (scale float32) {
	scale = fp8Scale(row)
	for k, x := range row {
		codes[k] = tensor.E4M3(x / scale)
		y := float64(tensor.E4M3Value(codes[k]) * scale)
		d := float64(x) - y
		r.SSE += float64(d * d)
		r.Rounded += float64(y * y)
		r.Energy += float64(float64(x) * float64(x))
	}
	return scale
}

// Shape returns N and K.
func (w *FP8Weight) Shape() (n, k int) { return w.N, w.K }

// ActivationBits is 8: the scheme rounds activations to E4M3 per token.
func (w *FP8Weight) ActivationBits() int { return 8 }

// Decode writes code*scale into dst (N, K); every arithmetic multiplies that.
func (w *FP8Weight) Decode(dst tensor.Matrix, _ Arithmetic) {
	if dst.Rows != w.N || dst.Cols != w.K {
		panic("packer: destination of Decode has another shape")
	}
	for n, scale := range w.Scales {
		row := dst.Row(n)
		for k, c := range w.Codes[n*w.K:][:w.K] {
			row[k] = tensor.E4M3Value(c) * scale
		}
	}
}
