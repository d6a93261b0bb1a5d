package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// Against math.Exp, whose own error is below 1e-15: every part of the range,
// both ends of every reduced interval.
func TestExpNeg(t *testing.T) {
	t.Parallel()
	worst := 0.0
	check := func(x float64) {
		if want := math.Exp(x); x <= 0 && x >= expFloor {
			worst = max(worst, math.Abs(expNeg(x)-want)/want)
		}
	}
	for i := range 1_000_000 {
		check(-float64(i) * 6.9999e-4)
	}
	for n := range 1011 {
		for i := range 21 {
			check(-(float64(n) + 0.5 + float64(i-10)*1e-3) * math.Ln2)
		}
	}
	t.Logf("largest relative error %.2g", worst)
	if worst > 1e-11 {
		t.Errorf("relative error %g", worst)
	}
	floor := expNeg(expFloor)
	for x, want := range map[float64]float64{0: 1, -1e-300: 1, math.Inf(-1): floor, -701: floor, -1e300: floor} {
		if got := expNeg(x); got != want {
			t.Errorf("exp(%g) = %g, want %g", x, got, want)
		}
	}
	if floor > 1e-300 {
		t.Errorf("the least result is %g: a sum of a large vocabulary may see it", floor)
	}
	for _, nan := range []float64{math.NaN(), math.Inf(-1) - math.Inf(-1), float64(math.Float32frombits(0xFFFFFFFF))} {
		if got := expNeg(nan); !math.IsNaN(got) {
			t.Errorf("exp(NaN) = %g", got)
		}
	}
}

// BenchmarkRow checks a row of logits against math.Exp and times its two
// reductions beside it, best of all rounds.
func BenchmarkRow(b *testing.B) {
	for _, vocab := range []int{49152, 151936} {
		x, y := make([]float32, vocab), make([]float32, vocab)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range x {
			x[i], y[i] = float32(3*rng.NormFloat64()), float32(3*rng.NormFloat64())
		}
		want := -logSoftmax(x)[0]
		run := func(name string, f func()) {
			b.Run(fmt.Sprintf("%s/%d", name, vocab), func(b *testing.B) {
				best := time.Hour
				for b.Loop() {
					start := time.Now()
					f()
					best = min(best, time.Since(start))
				}
				b.ReportMetric(float64(best.Nanoseconds())/float64(vocab), "ns/logit")
			})
		}
		for _, vectors := range paths() {
			p, q := reduceRow(x, vectors), reduceRow(y, vectors)
			if got := p.logSum - float64(x[0]); math.Abs(got-want) > 1e-10 {
				b.Fatalf("NLL %g, want %g", got, want)
			}
			run(fmt.Sprintf("nll/vectors=%v", vectors), func() { reduceRow(x, vectors) })
			run(fmt.Sprintf("kl/vectors=%v", vectors), func() { klRow(x, y, p, q, vectors) })
		}
		run("nll/math.Exp", func() { logSoftmax(x) })
	}
}
