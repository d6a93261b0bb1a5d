package packer

import (
	"errors"
	"math"
	"slices"
	"testing"

	"quantize/calibrate"
)

// U·D·Uᵀ is the Hessian in the factor's order with the damping reported.
func TestFactorHessian(t *testing.T) {
	for _, k := range []int{1, 2, 33, 100} {
		h := gramian(k, k+30, uint64(k))
		if k > 40 {
			for i := range k {
				h[i*k+40], h[40*k+i] = 0, 0
			}
		}
		for _, order := range []bool{false, true} {
			taken := hessianOf(h)
			f, err := FactorHessian(taken, FactorOptions{Damp: 0.02, ActOrder: order})
			if err != nil {
				t.Fatal(err)
			}
			if taken.Data != nil {
				t.Error("the Hessian was not taken")
			}
			var mean float64
			live := 0
			for i := range k {
				if h[i*k+i] > 0 {
					mean += h[i*k+i]
					live++
				}
			}
			mean /= float64(live)
			if f.K != k || f.Damp != 0.02 || f.DeadColumns != k-live {
				t.Errorf("K %d, damp %g, %d dead", f.K, f.Damp, f.DeadColumns)
			}
			for i, a := range f.order {
				if order && i > 0 {
					before := f.order[i-1]
					x, y := h[before*k+before], h[a*k+a]
					if x == 0 {
						x = mean
					}
					if y == 0 {
						y = mean
					}
					if x < y || x == y && before > a {
						t.Fatalf("K = %d: input %d before %d", k, before, a)
					}
				}
				for j, b := range f.order {
					want := h[a*k+b]
					if i == j {
						if want == 0 {
							want = mean
						}
						want += 0.02 * mean
					}
					var got, size float64
					for c := max(i, j); c < k; c++ {
						p := f.h[i*k+c] * f.d[c] * f.h[j*k+c]
						got += p
						size += math.Abs(p)
					}
					if math.Abs(got-want) > 2*float64(k+6)*0x1p-53*size {
						t.Fatalf("K = %d (%d, %d): UDUᵀ is %g, H' is %g", k, i, j, got, want)
					}
				}
			}
			if !order && !slices.IsSorted(f.order) {
				t.Error("permuted without act-order")
			}
		}
	}
}

// A matrix that rounding or a fault made indefinite gets the least power of ten
// times the damping that helps, from the same matrix as at first.
func TestFactorHessianGrowsDamping(t *testing.T) {
	const k = 130
	h := gramian(k, 200, 1)
	// Two inputs that agree more than perfectly.
	for i := range k {
		h[i*k+1], h[k+i] = h[i*k+5], h[5*k+i]
	}
	top := h[5*k+5]
	h[k+1], h[k+5], h[5*k+1] = top, 1.05*top, 1.05*top
	var mean float64
	for i := range k {
		mean += h[i*k+i] / k
	}
	for _, order := range []bool{false, true} {
		f := factor(t, h, FactorOptions{Damp: 1e-5, ActOrder: order})
		if f.Damp < 1e-4 || f.Damp > 10 {
			t.Fatalf("damping %g", f.Damp)
		}
		// By hand: the same growth on fresh copies.
		for damp := 1e-5; ; damp *= 10 {
			a := slices.Clone(h)
			for i := range k {
				a[i*k+i] += damp * mean
			}
			if reverseCholesky(a, k) {
				if !agree(f.Damp, damp, 1e-12) {
					t.Errorf("damping %g, by hand %g", f.Damp, damp)
				}
				break
			}
		}
		fresh := factor(t, h, FactorOptions{Damp: f.Damp, ActOrder: order})
		if !slices.Equal(fresh.h, f.h) || !slices.Equal(fresh.d, f.d) {
			t.Error("a failed attempt left traces")
		}
	}
}

func TestFactorHessianRefuses(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for name, c := range map[string]struct {
		h    *calibrate.Hessian
		o    FactorOptions
		want error
	}{
		"NaN on the diagonal":       {&calibrate.Hessian{K: 1, Data: []float64{nan}}, FactorOptions{}, ErrInvalid},
		"infinite":                  {&calibrate.Hessian{K: 1, Data: []float64{inf}}, FactorOptions{}, ErrInvalid},
		"negative":                  {&calibrate.Hessian{K: 1, Data: []float64{-1}}, FactorOptions{}, ErrInvalid},
		"NaN beside the diagonal":   {&calibrate.Hessian{K: 2, Data: []float64{1, nan, nan, 1}}, FactorOptions{}, ErrInvalid},
		"far from positive":         {&calibrate.Hessian{K: 2, Data: []float64{1, 1e9, 1e9, 1}}, FactorOptions{}, ErrInvalid},
		"used up":                   {&calibrate.Hessian{K: 2}, FactorOptions{}, ErrInvalid},
		"empty":                     {&calibrate.Hessian{}, FactorOptions{}, ErrInvalid},
		"negative damping":          {&calibrate.Hessian{K: 1, Data: []float64{1}}, FactorOptions{Damp: -1}, ErrOption},
		"damping that is no number": {&calibrate.Hessian{K: 1, Data: []float64{1}}, FactorOptions{Damp: nan}, ErrOption},
	} {
		if _, err := FactorHessian(c.h, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPermuteSymmetric(t *testing.T) {
	for _, order := range [][]int{{0}, {1, 0}, {0, 1, 2}, {2, 0, 1}, {3, 1, 0, 2}, {1, 2, 3, 4, 0}, {4, 3, 2, 1, 0}, {1, 0, 3, 2, 4}} {
		k := len(order)
		a := make([]float64, k*k)
		for i := range a {
			a[i] = float64(i)
		}
		got := slices.Clone(a)
		permuteSymmetric(got, order)
		for i, p := range order {
			for j, q := range order {
				if got[i*k+j] != a[p*k+q] {
					t.Fatalf("%v: (%d, %d) is %g", order, i, j, got[i*k+j])
				}
			}
		}
	}
}
