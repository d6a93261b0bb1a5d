package eval

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// MinWindows is the number of windows below which no interval is given: the t
// interval holds what it promises from about 10 windows on (docs/methods.md 0.3).
const MinWindows = 10

const (
	// tail is the probability left on either side of a 95 % interval.
	tail = 0.025
	// resamples makes tail*(resamples+1) whole, 100: the bounds are order statistics.
	resamples = 3999
	// noSpread is the standard error of a resample, as a share of the sample's,
	// that is rounding: its windows are all alike.
	noSpread = 1e-9
)

// pair is one window under two models: the finite sums in nats of the negative
// log-likelihood of the same tokens.
type pair struct {
	base, candidate float64
	tokens          int // scored, at least 1
}

// paired is ln(candidate's perplexity / base's) from at least one window w with
// difference d_w = candidate_w - base_w of its sums and n_w tokens, N in all:
//
//	ratio = sum(d_w) / N
//	se    = sqrt(W/(W-1) · sum((d_w - ratio·n_w)²)) / N
//
// the ratio estimator and its standard error (Cochran, Sampling Techniques, 3rd
// ed. 1977, chapter 6). The window is the unit, since the tokens of one depend
// on each other. Windows of one length give the mean of d_w/n_w and sd/√W.
type paired struct {
	ratio float64
	se    float64 // 0 of one window

	// centred is d_w - ratio·n_w, what resampling moves around.
	centred []float64
	tokens  []float64
}

func pairUp(windows []pair) paired {
	var p paired
	sum, total := 0.0, 0.0
	for _, w := range windows {
		sum += w.candidate - w.base
		total += float64(w.tokens)
	}
	p.ratio = sum / total
	for _, w := range windows {
		n := float64(w.tokens)
		p.centred = append(p.centred, w.candidate-w.base-p.ratio*n)
		p.tokens = append(p.tokens, n)
	}
	all := make([]int, len(windows))
	for i := range all {
		all[i] = i
	}
	_, p.se = p.estimate(all)
	return p
}

// estimate is the ratio of the windows in chosen, less that of the sample, and
// its standard error.
func (p *paired) estimate(chosen []int) (shift, se float64) {
	sum, total := 0.0, 0.0
	for _, w := range chosen {
		sum += p.centred[w]
		total += p.tokens[w]
	}
	shift = sum / total
	if len(chosen) < 2 {
		return shift, 0
	}
	squares := 0.0
	for _, w := range chosen {
		r := p.centred[w] - shift*p.tokens[w]
		squares += r * r
	}
	n := float64(len(chosen))
	return shift, math.Sqrt(n/(n-1)*squares) / total
}

// student is the 95 % interval [low, high] ratio ± t(0.975, W-1)·se; nil below
// [MinWindows].
func (p *paired) student() *[2]float64 {
	if len(p.centred) < MinWindows {
		return nil
	}
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(len(p.centred) - 1)}.Quantile(1 - tail)
	return &[2]float64{p.ratio - t*p.se, p.ratio + t*p.se}
}

// bootstrap is the bootstrap-t interval (Efron and Tibshirani, An Introduction
// to the Bootstrap, 1993, section 12.5): t* = (ratio* - ratio)/se* of resampled
// windows takes the place of Student's t, so a skewed sample gives a skewed
// interval. The draws are the same on every call.
//
// It is nil below [MinWindows], and where more resamples than a tail holds are
// windows without spread that miss the ratio: there t* has no bound.
func (p *paired) bootstrap() *[2]float64 {
	n := len(p.centred)
	if n < MinWindows {
		return nil
	}
	if p.se == 0 {
		return &[2]float64{p.ratio, p.ratio}
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	chosen := make([]int, n)
	ts := make([]float64, resamples)
	for i := range ts {
		for j := range chosen {
			chosen[j] = rng.IntN(n)
		}
		shift, se := p.estimate(chosen)
		switch {
		case se > noSpread*p.se:
			ts[i] = shift / se
		case math.Abs(shift) > noSpread*p.se:
			ts[i] = math.Inf(int(math.Copysign(1, shift)))
		}
	}
	slices.Sort(ts)
	k := int(math.Round(tail * (resamples + 1)))
	lowest, highest := ts[k-1], ts[resamples-k]
	if math.IsInf(lowest, 0) || math.IsInf(highest, 0) {
		return nil
	}
	return &[2]float64{p.ratio - highest*p.se, p.ratio - lowest*p.se}
}
