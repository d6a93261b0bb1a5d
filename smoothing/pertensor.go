package smoothing

import (
	"math"

	"quantize/model"
)

// PerTensorScale returns the power of two t that a weight (N, K) is multiplied
// by before FireQ's own layout rounds it, and what t leaves below the range of
// its scales (FireQ, arXiv 2505.20839, as in its code; methods.md 1.4):
//
//	σ = e4m3(amax_g·t/7)    y = (x·ŵᵀ + t·b) / t
//
// Each group of columns of a row has its σ in bare E4M3, so small weights lose
// digits of σ or all of it. Of 1, 2 .. 2^14 with amax·t <= 392 = 7·56 in every
// group (the products 8σ stay below 448), t has the smallest
//
//	lower = Σ_g max(0, wmin - amax_g·t) / wmin      wmin = 7·2^-6: σ is a normal number
//
// and the smaller of equal ones; 1 when even that is too much. The bounds are
// not the authors': theirs stop at amax = 448 and accept subnormal σ.
//
// It is for that layout alone. A grid with a factor for each row (packer's)
// absorbs t: neither codes nor scales change.
func PerTensorScale(w *model.Param, group int) (t, lower float64) {
	const (
		most = 7 * 56.0
		wmin = 7 * 0x1p-6
	)
	var tops []float64
	highest := 0.0
	for i := range w.Rows {
		for row := w.Row(i); len(row) > 0; row = row[min(group, len(row)):] {
			top := min(largest(row[:min(group, len(row))]), 448) // the authors clip weights there
			tops = append(tops, top)
			highest = max(highest, top)
		}
	}
	below := func(t float64) float64 {
		sum := 0.0
		for _, top := range tops {
			sum += max(0, wmin-top*t) / wmin
		}
		return sum
	}
	t, lower = 1, below(1)
	for k := 1; k <= 14; k++ {
		next := math.Ldexp(1, k)
		if highest*next > most {
			break
		}
		if l := below(next); l < lower {
			t, lower = next, l
		}
	}
	return t, lower
}
