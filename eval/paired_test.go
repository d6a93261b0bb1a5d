package eval

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// pairsOf are windows of one token each with the differences d.
func pairsOf(d ...float64) []pair {
	out := make([]pair, len(d))
	for i, v := range d {
		out[i] = pair{base: 3, candidate: 3 + v, tokens: 1}
	}
	return out
}

// t(0.975, 9) = 2.2621571628 (NIST/SEMATECH e-Handbook, table 1.3.6.7.2 gives 2.262).
func TestStudentInterval(t *testing.T) {
	t.Parallel()
	const t9 = 2.2621571628
	uneven := pairsOf(1, 2, 3, 4, 5, 6, 7, 8, 9, 0)
	uneven[9] = pair{base: 50, candidate: 60, tokens: 11} // 55 nats over 20 tokens
	for _, tc := range []struct {
		name        string
		windows     []pair
		ratio, half float64
	}{
		{"equal windows", pairsOf(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 5.5, t9 * math.Sqrt(55.0/6) / math.Sqrt(10)},
		// sum (d_w - 2.75)² of 1..9 is 285 - 2·2.75·45 + 9·2.75² = 105.5625, and (10 - 2.75·11)² = 410.0625.
		{"a longer window", uneven, 2.75, t9 * math.Sqrt(10.0/9*515.625) / 20},
		{"one model twice", pairsOf(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0, 0},
	} {
		p := pairUp(tc.windows)
		near(t, tc.name+": ratio", p.ratio, tc.ratio, 1e-12)
		got := p.student()
		if got == nil {
			t.Fatalf("%s: no interval", tc.name)
		}
		near(t, tc.name+": low", got[0], tc.ratio-tc.half, 1e-8)
		near(t, tc.name+": high", got[1], tc.ratio+tc.half, 1e-8)
	}
}

func TestFewWindowsHaveNoInterval(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, MinWindows - 1, MinWindows} {
		p := pairUp(pairsOf(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)[:n])
		near(t, "ratio", p.ratio, float64(n+1)/2, 1e-12)
		if s, b := p.student(), p.bootstrap(); (s != nil) != (n >= MinWindows) || (b != nil) != (n >= MinWindows) {
			t.Errorf("%d windows: intervals %v and %v", n, s, b)
		}
	}
}

func TestBootstrapInterval(t *testing.T) {
	t.Parallel()
	skewed := pairUp(pairsOf(1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 2, 2.5, 3, 6))
	got, again := skewed.bootstrap(), skewed.bootstrap()
	if got == nil || *got != *again {
		t.Fatalf("%v, then %v", got, again)
	}
	// A long tail above: what the sample has not seen lies above too.
	if below, above := skewed.ratio-got[0], got[1]-skewed.ratio; below <= 0 || above < 1.5*below {
		t.Errorf("%.3f below and %.3f above the ratio of a sample with a tail above", below, above)
	}
	same := pairUp(pairsOf(0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	if got := same.bootstrap(); got == nil || *got != [2]float64{0, 0} {
		t.Errorf("one model twice: %v, want [0, 0]", got)
	}
	// A third of the resamples lack the one window that differs: 0.9^10.
	lone := pairUp(pairsOf(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.3))
	if got := lone.bootstrap(); got != nil {
		t.Errorf("one window differs: %v, want none", *got)
	}
}

// The interval holds the truth as often as it says where windows differ by more
// than the noise of their tokens explains. Tokens taken as independent do not:
// without a window effect in the trials, that would be near 95 % too.
func TestCoverage(t *testing.T) {
	t.Parallel()
	const (
		trials       = 1000
		windows      = 20
		truth        = 0.02
		windowEffect = 0.05
		tokenNoise   = 0.3
	)
	for _, tc := range []struct {
		name   string
		tokens func(*rand.Rand) int
	}{
		{"equal windows", func(*rand.Rand) int { return 64 }},
		{"windows of 48 to 80", func(rng *rand.Rand) int { return 48 + rng.IntN(33) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(8, 20))
			var student, bootstrap, independent int
			for range trials {
				ws := make([]pair, windows)
				var d []float64
				for w := range ws {
					effect := truth + windowEffect*rng.NormFloat64()
					ws[w].tokens = tc.tokens(rng)
					for range ws[w].tokens {
						base := rng.ExpFloat64() // cancels: the comparison is paired
						v := effect + tokenNoise*rng.NormFloat64()
						ws[w].base += base
						ws[w].candidate += base + v
						d = append(d, v)
					}
				}
				p := pairUp(ws)
				if s := p.student(); s[0] <= truth && truth <= s[1] {
					student++
				}
				if b := p.bootstrap(); b[0] <= truth && truth <= b[1] {
					bootstrap++
				}
				if math.Abs(mean(d)-truth) <= z975*sdOf(d)/math.Sqrt(float64(len(d))) {
					independent++
				}
			}
			t.Logf("of %d trials %d by t, %d by bootstrap-t, %d by tokens as if independent", trials, student, bootstrap, independent)
			for method, held := range map[string]int{"t": student, "bootstrap-t": bootstrap} {
				if held < 930 || held > 970 {
					t.Errorf("%s holds the truth in %d of %d trials, want 930 to 970", method, held, trials)
				}
			}
			if independent > 850 {
				t.Errorf("tokens as if independent hold it in %d: the trials have no window effect", independent)
			}
		})
	}
}

var z975 = distuv.UnitNormal.Quantile(0.975)

func sdOf(x []float64) float64 {
	m, sum := mean(x), 0.0
	for _, v := range x {
		sum += (v - m) * (v - m)
	}
	return math.Sqrt(sum / float64(len(x)-1))
}
