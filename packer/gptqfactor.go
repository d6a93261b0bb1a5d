package packer

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"quantize/calibrate"
	"quantize/internal/fault"
)

// FactorOptions says how a Hessian is prepared for [QuantizeGPTQ].
type FactorOptions struct {
	Damp     float64 // fraction of the mean diagonal added to the diagonal; 0: 0.01
	ActOrder bool    // round the channels of largest H_jj first ("act-order"); equal ones keep their order
}

// Factor is the factored Hessian of a site, shared by all linears that read the
// site; it is never written again, so they may be rounded concurrently. With H'
// the damped Hessian in the order of rounding,
//
//	H' = U·D·Uᵀ, U unit upper triangular, D diagonal
//
// which is what the column loop of GPTQ needs of the Cholesky factor of H'⁻¹
// (arXiv 2210.17323, algorithm 1), without an inverse: with R = U·√D, that
// factor is R⁻¹. That this form rounds alike is theorem 6 of QuIP (arXiv
// 2307.13304); Chen et al. (arXiv 2507.18553) read it as Babai's nearest plane.
type Factor struct {
	K           int
	Damp        float64 // the fraction used: as asked for, or ten times that until H' was positive definite
	DeadColumns int     // inputs that were always zero; their weights become 0

	h     []float64 // (K, K): U above the diagonal, H below
	d     []float64 // (K): D
	order []int     // the input that is rounded in place i
	dead  []bool    // by place
	ridge float64   // what was added to the diagonal
}

const (
	defaultDamp = 0.01
	largestDamp = 1e4 // a Gram matrix with rounding errors needs far less
)

// FactorHessian factors h in FP64 and takes its memory: the one K×K matrix is
// overwritten and h.Data becomes nil, also on error. Inputs that never were
// anything but zero (H_jj = 0) get the mean of the others' H_jj. When H with the
// damping is not positive definite beyond rounding, the damping grows tenfold;
// [Factor.Damp] reports the one used. A Hessian that is none is ErrInvalid, a
// negative damping ErrOption.
func FactorHessian(h *calibrate.Hessian, o FactorOptions) (*Factor, error) {
	f := &Factor{K: h.K, Damp: cmp.Or(o.Damp, defaultDamp), h: h.Data}
	h.Data = nil
	if !(f.Damp > 0 && f.Damp <= largestDamp) {
		return nil, &fault.Error{Err: ErrOption, Where: "damp", Found: fmt.Sprint(o.Damp), Wanted: fmt.Sprintf("a fraction up to %g of the mean diagonal", largestDamp)}
	}
	if f.K <= 0 || len(f.h) != f.K*f.K {
		return nil, &fault.Error{Err: ErrInvalid, Where: "Hessian", Found: fmt.Sprintf("%d elements for %d inputs", len(f.h), f.K), Wanted: "K*K elements", Hint: "a Hessian is used up when it is factored"}
	}
	diagonal, mean, err := f.diagonal()
	if err != nil {
		return nil, err
	}
	if o.ActOrder {
		slices.SortStableFunc(f.order, func(a, b int) int { return cmp.Compare(diagonal[b], diagonal[a]) })
		permuteSymmetric(f.h, f.order)
		diagonal, f.dead = permuted(diagonal, f.order), permuted(f.dead, f.order)
	}
	for {
		f.ridge = f.Damp * mean
		for i, x := range diagonal {
			f.h[i*f.K+i] = x + f.ridge
		}
		if reverseCholesky(f.h, f.K) {
			f.normalise()
			return f, nil
		}
		if f.Damp *= 10; f.Damp > largestDamp {
			return nil, &fault.Error{
				Err: ErrInvalid, Where: "Hessian", Found: "not positive definite, however much is added to its diagonal",
				Wanted: "a sum of xᵀx", Hint: "activations overflowed, or the matrix is not symmetric",
			}
		}
		f.mirror()
	}
}

// diagonal returns H_jj, the mean of the live inputs in place of zeros, and that
// mean.
func (f *Factor) diagonal() (diagonal []float64, mean float64, err error) {
	diagonal, f.dead, f.order = make([]float64, f.K), make([]bool, f.K), make([]int, f.K)
	for j := range diagonal {
		x := f.h[j*f.K+j]
		if !(x >= 0 && x <= math.MaxFloat64) {
			return nil, 0, &fault.Error{Err: ErrInvalid, Where: fmt.Sprintf("Hessian[%d, %d]", j, j), Found: fmt.Sprint(x), Wanted: "a finite sum of squares"}
		}
		diagonal[j], f.order[j] = x, j
		mean += x / float64(f.K)
		if f.dead[j] = x == 0; f.dead[j] {
			f.DeadColumns++
		}
	}
	if f.DeadColumns == f.K {
		mean = 1
	} else {
		mean *= float64(f.K) / float64(f.K-f.DeadColumns)
	}
	for j, dead := range f.dead {
		if dead {
			diagonal[j] = mean
		}
	}
	return diagonal, mean, nil
}

// mirror copies the lower triangle, H, over what is left of an attempt.
func (f *Factor) mirror() {
	for i := range f.K {
		for j := range i {
			f.h[j*f.K+i] = f.h[i*f.K+j]
		}
	}
}

// normalise turns R into U and D.
func (f *Factor) normalise() {
	f.d = make([]float64, f.K)
	inverse := make([]float64, f.K)
	for j := range f.d {
		r := f.h[j*f.K+j]
		f.d[j], inverse[j] = r*r, 1/r
	}
	overRows(f.K, func(next func() (int, bool)) {
		for i, ok := next(); ok; i, ok = next() {
			row := f.h[i*f.K : (i+1)*f.K]
			for j := i + 1; j < f.K; j++ {
				row[j] *= inverse[j]
			}
			row[i] = 1
		}
	})
}

// permuteSymmetric moves rows and columns of the square a in place: afterwards
// row and column i are what order[i] was.
func permuteSymmetric(a []float64, order []int) {
	k := len(order)
	done := make([]bool, k)
	first := make([]float64, k)
	for start := range order {
		if done[start] || order[start] == start {
			continue
		}
		copy(first, a[start*k:][:k])
		i := start
		for ; order[i] != start; i = order[i] {
			copy(a[i*k:][:k], a[order[i]*k:][:k])
			done[i] = true
		}
		copy(a[i*k:][:k], first)
		done[i] = true
	}
	overRows(k, func(next func() (int, bool)) {
		old := make([]float64, k)
		for i, ok := next(); ok; i, ok = next() {
			row := a[i*k:][:k]
			copy(old, row)
			for j, from := range order {
				row[j] = old[from]
			}
		}
	})
}

func permuted[T any](x []T, order []int) []T {
	y := make([]T, len(x))
	for i, from := range order {
		y[i] = x[from]
	}
	return y
}
