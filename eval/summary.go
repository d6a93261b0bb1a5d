package eval

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// minWindows is the number of windows below which no interval is given: the t
// interval holds what it promises from about 10 windows on (methods.md 0.3).
const minWindows = 10

// windowMeans returns the mean of each run of positions values.
func windowMeans(values []float64, positions int) []float64 {
	means := make([]float64, 0, len(values)/positions)
	for run := range slices.Chunk(values, positions) {
		means = append(means, mean(run))
	}
	return means
}

// mean sums in the order of the values.
func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// quantile interpolates linearly between order statistics (R's type 7, numpy's
// default); sorted must be in ascending order and not empty.
func quantile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	f := at - float64(i)
	return sorted[i]*(1-f) + sorted[i+1]*f
}

// tInterval is the 95 % interval of the mean of d, mean ± t(0.975, n-1)·sd/√n,
// nil below minWindows values. The tokens of a window depend on each other and
// windows differ, so the window is the unit.
func tInterval(d []float64) *[2]float64 {
	n := float64(len(d))
	if len(d) < minWindows {
		return nil
	}
	m, sd := stat.MeanStdDev(d, nil)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(0.975)
	half := t * sd / math.Sqrt(n)
	return &[2]float64{m - half, m + half}
}

// compare fills a Comparison from the values of all positions.
func compare(base, candidate *trace, positions int) Comparison {
	d := make([]float64, len(base.nll))
	same := 0
	for i := range d {
		d[i] = candidate.nll[i] - base.nll[i]
		if candidate.top[i] == base.top[i] {
			same++
		}
	}
	windows := windowMeans(d, positions)
	kl := slices.Clone(candidate.kl)
	slices.Sort(kl)
	return Comparison{
		KLMean:        mean(candidate.kl),
		KLMedian:      quantile(kl, 0.5),
		KLP999:        quantile(kl, 0.999),
		Top1Agreement: float64(same) / float64(len(d)),
		LnPPLRatio:    mean(windows),
		WindowLnRatio: windows,
		CI95:          tInterval(windows),
	}
}
