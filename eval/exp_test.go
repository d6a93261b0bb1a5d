package eval

import (
	"math"
	"testing"
)

func TestExpNeg(t *testing.T) {
	t.Parallel()
	worst := 0.0
	for i := range 2_000_000 {
		x := -float64(i) * 3.4e-4
		got, want := expNeg(x), math.Exp(x)
		worst = max(worst, math.Abs(got-want)/want)
	}
	if worst > 1e-11 {
		t.Errorf("relative error %g", worst)
	}
	for x, want := range map[float64]float64{0: 1, math.Inf(-1): 0, -701: 0, -1e300: 0, -1e-300: 1} {
		if got := expNeg(x); got != want {
			t.Errorf("exp(%g) = %g, want %g", x, got, want)
		}
	}
	if got := expNeg(math.NaN()); !math.IsNaN(got) {
		t.Errorf("exp(NaN) = %g", got)
	}
}

func BenchmarkExpNeg(b *testing.B) {
	x := make([]float64, 4096)
	for i := range x {
		x[i] = -float64(i%997) * 0.03
	}
	b.Run("table", func(b *testing.B) {
		sum := 0.0
		for b.Loop() {
			for _, v := range x {
				sum += expNeg(v)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(x)), "ns/exp")
		_ = sum
	})
	b.Run("math", func(b *testing.B) {
		sum := 0.0
		for b.Loop() {
			for _, v := range x {
				sum += math.Exp(v)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(x)), "ns/exp")
		_ = sum
	})
}
