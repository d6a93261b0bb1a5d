package smoothing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func gaussian(seed uint64, n int) []float64 {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	return x
}

func norm(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

// apart is the largest difference of two vectors.
func apart(a, b []float64) float64 {
	most := 0.0
	for i, v := range a {
		most = max(most, math.Abs(v-b[i]))
	}
	return most
}

// slowly is elements i of Hx, or of Hᵀx, by the signs.
func slowly(h *Hadamard, x []float64, i int, transposed bool) float64 {
	sum := 0.0
	for j, v := range x {
		s := h.Sign(i, j)
		if transposed {
			s = h.Sign(j, i)
		}
		sum += float64(s) * v
	}
	return sum / math.Sqrt(float64(h.Order()/h.Blocks()))
}

// checkTransform compares fast and slow at every element, at 64 of a large order.
func checkTransform(t testing.TB, h *Hadamard) {
	t.Helper()
	n := h.Order()
	x := gaussian(7, n)
	rng := rand.New(rand.NewPCG(8, uint64(n)))
	places := rng.Perm(n)
	if n > 512 {
		places = places[:64]
	}
	for _, transposed := range []bool{false, true} {
		fast := slices.Clone(x)
		h.transform(fast, transposed)
		for _, i := range places {
			if d := math.Abs(fast[i] - slowly(h, x, i, transposed)); !(d <= 1e-12) {
				t.Fatalf("%v, transposed %v: element %d is off by %g", h, transposed, i, d)
			}
		}
		if d := math.Abs(norm(fast) - norm(x)); !(d <= 1e-12*norm(x)) {
			t.Errorf("%v, transposed %v: the norm changes by %g", h, transposed, d)
		}
		h.transform(fast, !transposed)
		if d := apart(fast, x); !(d <= 1e-12) {
			t.Errorf("%v, transposed %v: the inverse is off by %g", h, transposed, d)
		}
	}
}

func TestFastIsDense(t *testing.T) {
	t.Parallel()
	for _, m := range append([]int{1}, paleyOrders...) {
		for _, times := range []int{1, 2, 8} {
			checkTransform(t, hadamard(t, m*times))
		}
	}
	for _, n := range []int{2, 4, 8, 16, 32, 512, 2048, 12 * 12, 12 * 20 * 2, 20 * 28 * 16, 36 * 76 * 4, 28 * 132 * 8} {
		checkTransform(t, hadamard(t, n))
	}
	for _, n := range []int{2, 14, 48, 856} {
		h, err := BlockHadamard(n)
		if err != nil {
			t.Fatal(err)
		}
		checkTransform(t, h)
	}
}

// The dense matrix is the Kronecker product that the documentation promises.
func TestDenseIsTheKroneckerProduct(t *testing.T) {
	t.Parallel()
	for _, n := range []int{8, 96, 224, 144 * 2, 240} {
		h := hadamard(t, n)
		want := []float64{1}
		for place, m := range h.Factors() {
			size := int(math.Sqrt(float64(len(want))))
			next := make([]float64, len(want)*m*m)
			for i := range size * m {
				for j := range size * m {
					next[i*size*m+j] = want[i/m*size+j/m] * float64(h.FactorSign(place, i%m, j%m))
				}
			}
			want = next
		}
		for i, v := range h.Dense() {
			if d := math.Abs(v - want[i]/math.Sqrt(float64(n))); d > 1e-16 {
				t.Fatalf("%v: element %d is off by %g", h, i, d)
			}
		}
	}
}

// The orders that the tests lean on are not symmetric, so that a transposition
// shows: Hx and Hᵀx differ.
func TestTranspositionShows(t *testing.T) {
	t.Parallel()
	for _, n := range []int{12, 28, 24, 48, 14336} {
		h := hadamard(t, n)
		x := gaussian(1, n)
		y := slices.Clone(x)
		h.Apply(x)
		h.ApplyTransposed(y)
		if apart(x, y) < 0.1 {
			t.Errorf("%v: Hx is Hᵀx", h)
		}
	}
}

func TestTransformIsLinearAndInvertible(t *testing.T) {
	t.Parallel()
	var orders []int
	for n := 1; n <= 512; n++ {
		if _, err := NewHadamard(n); err == nil {
			orders = append(orders, n)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := hadamardOf(rapid.SampledFrom(orders).Draw(t, "n"))
		x, y := gaussian(rapid.Uint64().Draw(t, "x"), h.n), gaussian(rapid.Uint64().Draw(t, "y"), h.n)
		a := rapid.Float64Range(-4, 4).Draw(t, "a")
		sum, back := make([]float64, h.n), slices.Clone(x)
		for i := range sum {
			sum[i] = x[i] + a*y[i]
		}
		h.Apply(x)
		h.Apply(y)
		h.Apply(sum)
		for i := range sum {
			if d := math.Abs(sum[i] - x[i] - a*y[i]); d > 1e-12 {
				t.Fatalf("%v: not linear at %d by %g", h, i, d)
			}
		}
		h.ApplyTransposed(x)
		if d := apart(x, back); d > 1e-12 {
			t.Fatalf("%v: the inverse is off by %g", h, d)
		}
	})
}

func hadamardOf(n int) *Hadamard {
	h, err := NewHadamard(n)
	if err != nil {
		panic(err)
	}
	return h
}

func TestTransformAllocatesNothing(t *testing.T) {
	for _, n := range []int{64, 28 * 8, 144} {
		h, x := hadamard(t, n), gaussian(1, n)
		for _, transform := range []func([]float64){h.Apply, h.ApplyTransposed} {
			// The mean is rounded down: under the race detector a pool loses a quarter of its items.
			if a := testing.AllocsPerRun(1000, func() { transform(x) }); a > 0 {
				t.Errorf("%v: %v allocations", h, a)
			}
		}
	}
}

func TestWrongLengthPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	hadamard(t, 12).Apply(make([]float64, 11))
}

// BenchmarkHadamard times one row; the orders are the widths of Llama-2-7B,
// Llama-3 and Qwen2.5-0.5B.
func BenchmarkHadamard(b *testing.B) {
	for _, n := range []int{4096, 4864, 11008, 14336, 28672} {
		h := hadamard(b, n)
		checkTransform(b, h)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := gaussian(1, n)
			for b.Loop() {
				h.Apply(x)
			}
			b.ReportMetric(float64(h.Additions()), "additions")
			b.ReportMetric(float64(h.Additions())*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gadd/s")
		})
	}
}
