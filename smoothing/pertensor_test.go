package smoothing

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"quantize/model"
	"quantize/tensor"
)

const (
	smallest = 0x1p-9 // of E4M3
	normal   = 0x1p-6
)

// fireQLayout rounds w·t as FireQ's own layout does (methods.md 1.3): codes of
// each weight and a bare E4M3 scale of each group.
func fireQLayout(w *model.Param, group int, t float64) (codes []float64, scales []float32) {
	for i := range w.Rows {
		for g := 0; g < w.Cols; g += group {
			weights := w.Row(i)[g : g+group]
			sigma := max(tensor.RoundE4M3(float32(max(largest(weights)*t, 1e-5)/7)), smallest)
			scales = append(scales, sigma)
			for _, v := range weights {
				codes = append(codes, max(min(math.RoundToEven(v*t/float64(sigma)), 7), -8))
			}
		}
	}
	return codes, scales
}

// groupsOf makes a weight of one row whose groups of 8 have these maxima.
func groupsOf(rng *rand.Rand, maxima ...float64) *model.Param {
	w := &model.Param{Rows: 1}
	for _, m := range maxima {
		at := rng.IntN(8)
		for j := range 8 {
			v := m * (2*rng.Float64() - 1)
			if j == at {
				v = math.Copysign(m, v)
			}
			w.Data = append(w.Data, v)
		}
	}
	w.Cols = len(w.Data)
	return w
}

// methods.md 1.15, test 4.
func TestFireQLayoutByScale(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		exponents := rapid.SliceOfN(rapid.Float64Range(-14, 4), 1, 12).Draw(r, "log2 of the maxima")
		for i, e := range exponents {
			exponents[i] = math.Exp2(e)
		}
		w := groupsOf(rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1)), exponents...)
		before := len(exponents)
		for k := range 4 {
			factor := math.Ldexp(1, k)
			codes, scales := fireQLayout(w, 8, factor)
			floored := 0
			for g, sigma := range scales {
				if sigma < smallest || tensor.RoundE4M3(sigma) != sigma {
					r.Fatalf("scale %v", sigma)
				}
				if sigma == smallest {
					floored++
				}
				for j, q := range codes[g*8 : g*8+8] {
					v := w.Data[g*8+j] * factor
					if e := math.Abs(v - q*float64(sigma)); e > float64(sigma)/2 && q != 7 && q != -8 {
						r.Fatalf("weight %v is off by %v at scale %v", v, e, sigma)
					}
				}
			}
			if floored > before {
				r.Fatalf("times %v: %d groups at the smallest scale, %d before", factor, floored, before)
			}
			before = floored
		}
	})
}

// methods.md 1.15, test 6: a power of two does nothing where nothing underflows,
// to codes, scales and outputs; the control is a group that does.
func TestPerTensorScaleIsExact(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 16)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	output := func(w *model.Param, factor float64) float32 {
		codes, scales := fireQLayout(w, 8, factor)
		sum := float32(0)
		for j, v := range x {
			sum += float32(v * float32(codes[j]*float64(scales[j/8])))
		}
		return float32(float64(sum) / factor)
	}
	w := groupsOf(rng, 0.12, 3)
	for _, factor := range []float64{2, 16, 128} {
		if a, b := output(w, 1), output(w, factor); a != b {
			t.Errorf("times %v: %v, without %v", factor, b, a)
		}
	}
	if low := groupsOf(rng, 0.005, 3); output(low, 1) == output(low, 128) {
		t.Error("a group that underflowed gained nothing")
	}
}

// Where a power of two lifts all groups into the normal range, the smallest of
// them is found; no group leaves the range at the top; brute force agrees.
func TestPerTensorScaleIsTheBest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		top := rapid.Float64Range(-14, 10).Draw(r, "log2 of the largest maximum")
		maxima := []float64{math.Exp2(top)}
		for _, down := range rapid.SliceOfN(rapid.Float64Range(0, 14), 0, 10).Draw(r, "octaves below") {
			maxima = append(maxima, math.Exp2(top-down))
		}
		w := groupsOf(rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1)), maxima...)
		got, lower := PerTensorScale(w, 8)

		best, least := 1.0, math.Inf(1)
		for k := 14; k >= 0; k-- {
			factor := math.Ldexp(1, k)
			sum := 0.0
			for _, m := range maxima {
				sum += max(0, 7*normal-min(m, 448)*factor) / (7 * normal)
			}
			if (min(maxima[0], 448)*factor <= 392 || k == 0) && sum <= least {
				best, least = factor, sum
			}
		}
		if got != best || lower != least {
			r.Fatalf("%v with %v below, wanted %v with %v", got, lower, best, least)
		}
		_, scales := fireQLayout(w, 8, got)
		for g, sigma := range scales {
			if lower == 0 && sigma < normal {
				r.Fatalf("group %d has scale %v", g, sigma)
			}
			if maxima[0] <= 392 && 8*sigma > 448 {
				r.Fatalf("group %d has scale %v, beyond the table", g, sigma)
			}
		}
		spread := 1.0
		for _, m := range maxima {
			spread = max(spread, maxima[0]/m)
		}
		if reach := maxima[0] * math.Ldexp(1, 14); spread <= 1792 && reach/spread >= 7*normal && maxima[0] <= 392 && lower > 0 {
			r.Fatalf("a spread of %v leaves %v below", spread, lower)
		}
	})
}

func TestPerTensorScaleAtTheEdges(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for name, c := range map[string]struct {
		maxima []float64
		want   float64
	}{
		"all zero":         {[]float64{0, 0}, 1},
		"normal already":   {[]float64{7 * normal, 100}, 1},
		"one octave":       {[]float64{7 * normal / 2, 100}, 2},
		"at the top":       {[]float64{0.01, 196}, 2},
		"just beyond":      {[]float64{0.01, 196.1}, 1},
		"too large for 1":  {[]float64{0.01, 1000}, 1},
		"as far as it can": {[]float64{1e-9}, 1 << 14},
	} {
		if got, _ := PerTensorScale(groupsOf(rng, c.maxima...), 8); got != c.want {
			t.Errorf("%s: %v, wanted %v", name, got, c.want)
		}
	}
	ragged := &model.Param{Rows: 1, Cols: 9, Data: []float64{1, 1, 1, 1, 1, 1, 1, 1, 7 * normal / 4}}
	if got, lower := PerTensorScale(ragged, 8); got != 4 || lower != 0 {
		t.Errorf("a short last group: %v, %v", got, lower)
	}
}
