package packer

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// gramian is Σ xᵀx of tokens rows x whose channels are correlated, in float64.
func gramian(k, tokens int, seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 31))
	h := make([]float64, k*k)
	x := make([]float64, k)
	for range tokens {
		common := r.NormFloat64()
		for j := range x {
			x[j] = r.NormFloat64()*(0.2+float64(j%7)) + common*float64(j%3)
			if j > 0 {
				x[j] += 0.6 * x[j-1]
			}
		}
		for i, a := range x {
			for j, b := range x {
				h[i*k+j] += float64(a * b)
			}
		}
	}
	return h
}

// R·Rᵀ gives A back to the rounding of sums of n products, and the lower
// triangle is left alone.
func TestReverseCholesky(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 63, 64, 65, 127, 130, 200, 321} {
		want := gramian(n, n+40, uint64(n))
		got := slices.Clone(want)
		if !reverseCholesky(got, n) {
			t.Fatalf("n = %d: not positive definite", n)
		}
		for i := range n {
			for j := range n {
				if j < i {
					if got[i*n+j] != want[i*n+j] {
						t.Fatalf("n = %d: lower (%d, %d) changed", n, i, j)
					}
					continue
				}
				var sum, size float64
				for k := j; k < n; k++ {
					p := got[i*n+k] * got[j*n+k]
					sum += p
					size += math.Abs(p)
				}
				// Each of at most n products and sums rounds once, here and there.
				if bound := 2 * float64(n+2) * 0x1p-53 * size; math.Abs(sum-want[i*n+j]) > bound {
					t.Fatalf("n = %d (%d, %d): R·Rᵀ is %g, A is %g, bound %g", n, i, j, sum, want[i*n+j], bound)
				}
			}
		}
	}
}

func TestReverseCholeskyIsTheSameForAnyWorkers(t *testing.T) {
	const n = 200
	a := gramian(n, 300, 1)
	var first []float64
	for _, workers := range []int{1, 2, 5} {
		before := runtime.GOMAXPROCS(workers)
		got := slices.Clone(a)
		reverseCholesky(got, n)
		runtime.GOMAXPROCS(before)
		if first == nil {
			first = got
		}
		if !slices.Equal(first, got) {
			t.Errorf("%d workers: other bits", workers)
		}
	}
}

func TestReverseCholeskyRefuses(t *testing.T) {
	nan := math.NaN()
	for name, a := range map[string][]float64{
		"indefinite":     {1, 2, 2, 1},
		"semidefinite":   {1, 1, 1, 1},
		"zero":           {0},
		"negative":       {-1},
		"not a number":   {1, nan, nan, 1},
		"infinite pivot": {math.Inf(1)},
		"rank too small": gramian(100, 50, 3),
	} {
		n := int(math.Sqrt(float64(len(a))))
		if reverseCholesky(slices.Clone(a), n) {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The sum of an element does not depend on where its range is split.
func TestAddProductSplits(t *testing.T) {
	const rows, cols, k = 7, 5, 700
	r := rand.New(rand.NewPCG(4, 4))
	random := func(n int) block64 {
		b := block64{make([]float64, n*k), k}
		for i := range b.data {
			b.data[i] = r.NormFloat64()
		}
		return b
	}
	a, b := random(rows), random(cols)
	whole := block64{make([]float64, rows*cols), cols}
	split := block64{make([]float64, rows*cols), cols}
	addProduct(whole, a, b, rows, cols, 0, k)
	for _, at := range [][2]int{{0, 1}, {1, 130}, {130, 131}, {131, 699}, {699, 700}} {
		addProduct(split, a, b, rows, cols, at[0], at[1])
	}
	if !slices.Equal(whole.data, split.data) {
		t.Error("splitting the range changed a sum")
	}
	for i := range rows {
		for j := range cols {
			var want float64
			for c := range k {
				want += float64(a.data[i*k+c] * b.data[j*k+c])
			}
			if got := whole.data[i*cols+j]; got != want {
				t.Errorf("(%d, %d): %g, want %g", i, j, got, want)
			}
		}
	}
}

func BenchmarkReverseCholesky(b *testing.B) {
	const n = 1536
	a := make([]float64, n*n)
	for i := range n {
		for j := range n {
			a[i*n+j] = math.Pow(0.99, math.Abs(float64(i-j))) // an autoregressive process: positive definite
		}
	}
	work := make([]float64, len(a))
	for b.Loop() {
		copy(work, a)
		if !reverseCholesky(work, n) {
			b.Fatal("not positive definite")
		}
	}
	b.ReportMetric(float64(b.N)*n*n*n/3/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
