package smoothing

import (
	"fmt"
	"math"
	"slices"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
)

// AWQOptions are the options of [AWQ].
type AWQOptions struct {
	Ratios int // exponents that are tried, i/Ratios for i from 0; 0: 20
	// DuoGroup brings the weights in (duo scaling): the columns whose weights are
	// large within their groups of so many columns get smaller scales. 0: none.
	DuoGroup int
	// Pairs are the sites of the feeds to scale; nil: all.
	Pairs   []model.Point
	MatMulT calibrate.MatMulT // as in [Objective]
	Rows    int               // as in [Objective]
}

// AWQ returns the scales of a block that keep the weights of large activations
// accurate (Lin et al. 2023, arXiv 2306.00978, section 3.2 and eq. 5;
// methods.md 4.2), and what the search of each feed came to:
//
//	for r = 0, 1/20 .. 19/20:
//	  s = max(x^r, 1e-4)                          x_j = mean |x_j| of the calibration tokens
//	  s = max(x^r / (w^(1-r) + 1e-4), 1e-4)       with duo scaling
//	  s = s / sqrt(max s · min s)                 not finite: 1
//	take the r of the smallest Objective, or leave the feed alone when s = 1 is as good
//
// where w_j is the mean over all rows of |W_oj| divided by the largest of its
// group of DuoGroup columns. Under grouped queries, where the authors skip o, a
// channel of v takes the mean of x and w over the columns of o that read it.
//
// p is the block as the earlier transforms left it, stats and hessians are of its
// activations, quant is the target's own rounding; p and the statistics are not
// changed. Feeds o/v and down/up are searched first, as in [FireQ]. The feed of an
// expert that no token reached is left alone. Bad options, and sites without
// statistics, are [ErrScale].
func AWQ(cfg *model.Config, layer int, p model.Params, stats *calibrate.Stats, hessians map[model.Point]*calibrate.Hessian, quant Fake, o AWQOptions) ([]FeedScale, []Choice, error) {
	if o.Ratios < 0 || o.DuoGroup < 0 || o.Rows < 0 {
		return nil, nil, &fault.Error{Err: ErrScale, Where: "awq options", Found: fmt.Sprintf("%d ratios, groups of %d, %d rows", o.Ratios, o.DuoGroup, o.Rows), Wanted: "none negative"}
	}
	var choices []Choice
	objective := &Objective{
		Hessians: hessians, Fake: quant, MatMulT: o.MatMulT, Rows: o.Rows,
		OnChoice: func(c Choice) { choices = append(choices, c) },
	}
	scales, err := eachFeed(cfg, layer, p, func(b *smoothed, f model.Feed, w wires) ([]float64, error) {
		if o.Pairs != nil && !slices.Contains(o.Pairs, f.Site.Base()) {
			return nil, nil
		}
		site := model.Site{Layer: layer, Point: f.Site}
		if unreached(stats.Site(site) == nil, f.Site) {
			return nil, nil
		}
		observed, err := statsOf(stats, site, w.columns())
		if err != nil {
			return nil, err
		}
		activations := w.mean(observed.MeanAbs())
		var weights []float64
		if o.DuoGroup > 0 {
			weights = w.mean(b.relative(f.To, w.columns(), o.DuoGroup))
		}
		return objective.best(b, site, f, w, o.ratios(), func(r float64) []float64 { return awqScales(activations, weights, r) })
	})
	if err != nil {
		return nil, nil, err
	}
	return scales, choices, nil
}

// ratios are the exponents to try. Without duo scaling 0 is s = 1, which is
// among the candidates anyway.
func (o AWQOptions) ratios() []float64 {
	n, first := o.Ratios, 1
	if n == 0 {
		n = 20
	}
	if o.DuoGroup > 0 {
		first = 0
	}
	var r []float64
	for i := first; i < n; i++ {
		r = append(r, float64(i)/float64(n))
	}
	return r
}

// awqScales is the formula for the mean activations x and relative weights w of
// channels, nil without duo scaling.
func awqScales(x, w []float64, r float64) []float64 {
	const least = 1e-4
	s := make([]float64, len(x))
	for j, v := range x {
		s[j] = power(v, r)
		if w != nil {
			s[j] /= power(w[j], 1-r) + least
		}
		s[j] = max(s[j], least)
	}
	norm := math.Sqrt(slices.Max(s) * slices.Min(s))
	for j := range s {
		if s[j] /= norm; !(s[j] > 0) || math.IsInf(s[j], 0) {
			s[j] = 1
		}
	}
	return s
}

// relative returns for each of k columns the mean over the rows of linears of
// |W_oj| divided by the largest |W_oi| of j's group of columns.
func (b *smoothed) relative(to []string, k, group int) []float64 {
	mean := make([]float64, k)
	rows := 0
	for _, name := range to {
		w := b.params.Weight(name)
		rows += w.Rows
		groups := (k + group - 1) / group
		sharedOut(groups, 1+fewestColumns/group, func(from, end int) {
			for i := range w.Rows {
				for g := from; g < end; g++ {
					first := g * group
					weights := w.Row(i)[first:min(first+group, k)]
					top := largest(weights)
					if top == 0 {
						continue
					}
					for j, v := range weights {
						mean[first+j] += math.Abs(v) / top
					}
				}
			}
		})
	}
	for j := range mean {
		mean[j] /= float64(rows)
	}
	return mean
}

// largest is max |x|.
func largest(x []float64) float64 {
	top := 0.0
	for _, v := range x {
		top = max(top, math.Abs(v))
	}
	return top
}
