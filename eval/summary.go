package eval

import (
	"math"
	"slices"
)

// windowMeans returns the mean of each run of positions values.
func windowMeans(values []float64, positions int) []float64 {
	means := make([]float64, 0, len(values)/positions)
	for run := range slices.Chunk(values, positions) {
		means = append(means, mean(run))
	}
	return means
}

// pairs returns the sums of each run of positions values.
func pairs(base, candidate []float64, positions int) []pair {
	out := make([]pair, 0, len(base)/positions)
	for at := 0; at < len(base); at += positions {
		w := pair{tokens: positions}
		for i := range positions {
			w.base += base[at+i]
			w.candidate += candidate[at+i]
		}
		out = append(out, w)
	}
	return out
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

// compare fills a Comparison from the values of all positions.
func compare(base, candidate *trace, positions int) Comparison {
	same := 0
	for i, top := range base.top {
		if candidate.top[i] == top {
			same++
		}
	}
	windows := pairs(base.nll, candidate.nll, positions)
	ratios := make([]float64, len(windows))
	for i, w := range windows {
		ratios[i] = (w.candidate - w.base) / float64(w.tokens)
	}
	p := pairUp(windows)
	klMean, klMedian, klP999 := math.NaN(), math.NaN(), math.NaN()
	if kl := slices.Sorted(slices.Values(candidate.kl)); len(kl) > 0 {
		klMean, klMedian, klP999 = mean(candidate.kl), quantile(kl, 0.5), quantile(kl, 0.999)
	}
	return Comparison{
		KLMean:        klMean,
		KLMedian:      klMedian,
		KLP999:        klP999,
		Top1Agreement: float64(same) / float64(len(base.top)),
		LnPPLRatio:    p.ratio,
		CI95:          p.student(),
		CI95Bootstrap: p.bootstrap(),
		WindowLnRatio: ratios,
	}
}
