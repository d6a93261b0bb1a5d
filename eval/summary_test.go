package eval

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %.12g, want %.12g", what, got, want)
	}
}

// paths are plain Go and, where there is assembly, that.
func paths() []bool {
	if hasVectors() {
		return []bool{false, true}
	}
	return []bool{false}
}

func TestRowAgainstFloat64(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		vectors := rapid.SampledFrom(paths()).Draw(t, "vectors")
		logit := rapid.Float32Range(-60, 60)
		x := rapid.SliceOfN(logit, 1, 300).Draw(t, "x")
		y := rapid.SliceOfN(logit, len(x), len(x)).Draw(t, "y")
		p, q := reduceRow(x, vectors), reduceRow(y, vectors)
		logP, logQ := logSoftmax(x), logSoftmax(y)
		kl := 0.0
		for v := range x {
			kl += math.Exp(logP[v]) * (logP[v] - logQ[v])
		}
		if want := slices.Index(x, slices.Max(x)); p.top != want {
			t.Errorf("argmax %d, want %d", p.top, want)
		}
		if got := p.logSum - float64(x[0]); math.Abs(got+logP[0]) > 1e-10 {
			t.Errorf("NLL %g, want %g", got, -logP[0])
		}
		if got := klRow(x, y, p, q, vectors); math.Abs(got-kl) > 1e-9 {
			t.Errorf("KL %g, want %g", got, kl)
		}
		if got := klRow(x, x, p, p, vectors); got > 1e-11 {
			t.Errorf("KL of a row with itself is %g", got)
		}
	})
}

// logSoftmax is the definition, in float64.
func logSoftmax(x []float32) []float64 {
	peak := float64(slices.Max(x))
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - peak)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v) - peak - math.Log(sum)
	}
	return out
}

func TestRowHardCases(t *testing.T) {
	t.Parallel()
	for _, vectors := range paths() {
		if s := reduceRow([]float32{1, 3, 3, 2}, vectors); s.top != 1 {
			t.Errorf("a tie goes to %d, want the lowest id 1", s.top)
		}
		// One token takes all: the others' exponentials are below every bit of the sum.
		s := reduceRow([]float32{-3e38, 3e38, 0}, vectors)
		near(t, "log sum of a one-hot row", s.logSum, float64(float32(3e38)), 0)
		inf := float32(math.Inf(1))
		nan := float32(math.NaN())
		for at := range 50 { // in a vector, in the rest, alone
			for _, values := range [][2]float32{{0, nan}, {inf, 0}, {0, inf}, {-inf, -inf}, {-inf, nan}, {nan, nan}} {
				row := slices.Repeat(values[:1], at+1)
				row[at/2] = values[1]
				if s := reduceRow(row, vectors); at > 0 && !math.IsNaN(s.logSum) && !math.IsInf(s.logSum, 0) || s.top < 0 || s.top > at {
					t.Errorf("%v has log sum %g and argmax %d", row, s.logSum, s.top)
				}
			}
		}
		masked := slices.Repeat([]float32{-inf}, 40)
		masked[33], masked[34] = 1, 1
		s = reduceRow(masked, vectors)
		near(t, "log sum beside minus infinities", s.logSum, 1+math.Ln2, 1e-11)
		if s.top != 33 {
			t.Errorf("argmax beside minus infinities is %d, want 33", s.top)
		}
	}
}

// A tie over parts of a long row goes to the lowest place of all.
func TestArgmaxOfLongRows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := make([]float32, rapid.IntRange(1, 5000).Draw(t, "n"))
		for _, at := range rapid.SliceOfN(rapid.IntRange(0, len(x)-1), 0, 5).Draw(t, "at") {
			x[at] = rapid.SampledFrom([]float32{-1, float32(math.Copysign(0, -1)), 0.5, 2, 2}).Draw(t, "value")
		}
		want := slices.Index(x, slices.Max(x))
		for _, vectors := range paths() {
			if peak, top := argmax(x, vectors); top != want || peak != x[want] {
				t.Fatalf("vectors %v: %g at %d, want %g at %d", vectors, peak, top, x[want], want)
			}
		}
	})
}

// The assembly and plain Go give the same bits, whatever the length and the values.
func TestPathsAgree(t *testing.T) {
	t.Parallel()
	if !hasVectors() {
		t.Skip("no AVX2")
	}
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Float32Range(-80, 20)
		if rapid.Bool().Draw(t, "any bits") {
			number = rapid.Custom(func(t *rapid.T) float32 { return math.Float32frombits(rapid.Uint32().Draw(t, "bits")) })
		}
		x := rapid.SliceOfN(number, 1, 100).Draw(t, "x")
		y := rapid.SliceOfN(number, len(x), len(x)).Draw(t, "y")
		plain, fast := reduceRow(x, false), reduceRow(x, true)
		same(t, "log sum", fast.logSum, plain.logSum)
		if fast.top != plain.top {
			t.Errorf("argmax %d, want %d", fast.top, plain.top)
		}
		other := reduceRow(y, false)
		same(t, "KL", klRow(x, y, plain, other, true), klRow(x, y, plain, other, false))
		// The lanes themselves, with a shift that is not the largest element.
		shift := rapid.SampledFrom([]float64{0, 3.7, -1000, 1000}).Draw(t, "shift")
		var a, b lanes
		a.addExpVectors(x, max(shift, plain.logSum))
		b.addExp(x, max(shift, plain.logSum))
		a.addDivergenceVectors(x, y, shift)
		b.addDivergence(x, y, shift)
		for i := range a {
			same(t, "lane", a[i], b[i])
		}
	})
}

// same is equality of bits, all NaN being one.
func same(t *rapid.T, what string, got, want float64) {
	t.Helper()
	if math.Float64bits(got) != math.Float64bits(want) && !(math.IsNaN(got) && math.IsNaN(want)) {
		t.Errorf("%s: %x, want %x", what, got, want)
	}
}

// Values of numpy.quantile with its default method.
func TestQuantile(t *testing.T) {
	t.Parallel()
	x := []float64{1, 2, 4, 8, 16}
	for p, want := range map[float64]float64{0: 1, 0.25: 2, 0.5: 4, 0.6: 5.6, 0.999: 15.968, 1: 16} {
		near(t, "quantile", quantile(x, p), want, 1e-12)
	}
	near(t, "quantile of one", quantile([]float64{7}, 0.999), 7, 0)
}
