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

func TestRowAgainstFloat64(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		logit := rapid.Float32Range(-60, 60)
		x := rapid.SliceOfN(logit, 1, 300).Draw(t, "x")
		y := rapid.SliceOfN(logit, len(x), len(x)).Draw(t, "y")
		p, q := reduceRow(x), reduceRow(y)
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
		if got := klRow(x, y, p, q); math.Abs(got-kl) > 1e-9 {
			t.Errorf("KL %g, want %g", got, kl)
		}
		if got := klRow(x, x, p, p); got > 1e-11 {
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
	if s := reduceRow([]float32{1, 3, 3, 2}); s.top != 1 {
		t.Errorf("a tie goes to %d, want the lowest id 1", s.top)
	}
	// One token takes all: the others' exponentials are below every bit of the sum.
	s := reduceRow([]float32{-3e38, 3e38, 0})
	near(t, "log sum of a one-hot row", s.logSum, float64(float32(3e38)), 0)
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for _, row := range [][]float32{{0, nan}, {nan, 0}, {inf, 0}, {-inf, -inf}} {
		if s := reduceRow(row); !math.IsNaN(s.logSum) && !math.IsInf(s.logSum, 0) {
			t.Errorf("%v has a finite log sum %g", row, s.logSum)
		}
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

// t(0.975, 9) = 2.2621571628 (NIST/SEMATECH e-Handbook, table 1.3.6.7.2 gives 2.262).
func TestInterval(t *testing.T) {
	t.Parallel()
	d := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	got := tInterval(d)
	if got == nil {
		t.Fatal("no interval for ten windows")
	}
	half := 2.2621571628 * math.Sqrt(55.0/6) / math.Sqrt(10)
	near(t, "low", got[0], 5.5-half, 1e-8)
	near(t, "high", got[1], 5.5+half, 1e-8)
	if got := tInterval(d[:9]); got != nil {
		t.Errorf("nine windows have an interval %v", *got)
	}
}
