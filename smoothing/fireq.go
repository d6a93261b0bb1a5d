package smoothing

import (
	"fmt"
	"math"

	"quantize/internal/fault"
	"quantize/model"
)

// Statistic is what FireQ brings to one level in all input columns.
type Statistic uint8

// The statistics, taken over the concatenated rows of all consumers of a feed.
const (
	StatisticNone Statistic = iota // 1: the level itself becomes the scale
	StatisticMax                   // max |W|
	StatisticMean                  // mean |W|, as published
)

// Auto is the level that is the mean of the statistic over the channels, those
// without any weight left out.
const Auto = -1.0

// FireQPair are the constants of one feed.
type FireQPair struct {
	Level    float64 // c; 0: the pair is off; [Auto]
	Exponent float64 // r; 0 stands for 1, the published form
	Search   bool    // take r from 0, 1/4, 1/2, 3/4, 1 by the Objective instead
}

// FireQOptions are the options of [FireQ].
type FireQOptions struct {
	Statistic Statistic
	Pairs     map[model.Point]FireQPair // by Feed.Site; a missing pair is off
	Objective *Objective                // for pairs that are searched
}

var fireQExponents = []float64{0.25, 0.5, 0.75, 1}

// FireQ returns the channel-wise scales of a block (FireQ, arXiv 2505.20839, as
// in its code; methods.md 1.6):
//
//	s_j = (c / stat_j)^r      stat_j over all rows of all consumers; stat_j = 0: s_j = 1
//
// so that, at r = 1, all columns have the same magnitude c and a group of
// columns shares a scale well; activations get the inverse spread, which a
// floating format bears. Under grouped queries a channel of v takes the mean of
// s over the columns of o that read it, where the authors' code averages columns
// that lie side by side and changes the function.
//
// Pairs o/v and down/up come first, and the others read the rows that those two
// divided. p is the block as the earlier transforms left it (rotation, rope
// scales); it is not changed. Only ratios inside a pair matter to a grid whose
// scales float; see [PerTensorScale] for the one that has no factor per row.
// Bad options are [ErrScale].
func FireQ(cfg *model.Config, layer int, p model.Params, o FireQOptions) ([]FeedScale, error) {
	return eachFeed(cfg, layer, p, func(b *smoothed, f model.Feed, w wires) ([]float64, error) {
		pair := o.Pairs[f.Site.Base()]
		if err := pair.check(layer, f.Site); err != nil || pair.Level == 0 {
			return nil, err
		}
		stat, err := o.Statistic.of(b, f, w)
		if err != nil {
			return nil, err
		}
		level := pair.level(stat)
		scales := func(r float64) []float64 {
			columns := make([]float64, len(stat))
			for j, v := range stat {
				columns[j] = 1
				if v != 0 {
					columns[j] = power(level/v, r)
				}
			}
			return w.mean(columns)
		}
		switch {
		case pair.Search && unreached(o.Objective != nil && o.Objective.Hessians[f.Site] == nil, f.Site):
			return scales(1), nil // from weights alone
		case pair.Search:
			return o.Objective.best(b, model.Site{Layer: layer, Point: f.Site}, f, w, fireQExponents, scales)
		case pair.Exponent == 0:
			return scales(1), nil
		default:
			return scales(pair.Exponent), nil
		}
	})
}

// of returns the statistic of each column of the consumers.
func (s Statistic) of(b *smoothed, f model.Feed, w wires) ([]float64, error) {
	switch s {
	case StatisticNone:
		ones := make([]float64, w.columns())
		for j := range ones {
			ones[j] = 1
		}
		return ones, nil
	case StatisticMax:
		return b.magnitudes(f.To, w.columns()).max, nil
	case StatisticMean:
		return b.magnitudes(f.To, w.columns()).mean, nil
	default:
		return nil, &fault.Error{Err: ErrScale, Where: "fireq statistic", Found: fmt.Sprint(uint8(s)), Wanted: "none, max or mean"}
	}
}

func (p FireQPair) check(layer int, point model.Point) error {
	where := fmt.Sprintf("layer %d, %s", layer, point)
	switch {
	case p.Level != Auto && !(p.Level >= 0 && p.Level <= math.MaxFloat64):
		return &fault.Error{Err: ErrScale, Where: where + ", level", Found: fmt.Sprint(p.Level), Wanted: "0, Auto or a positive number"}
	case !(p.Exponent >= 0 && p.Exponent <= math.MaxFloat64):
		return &fault.Error{Err: ErrScale, Where: where + ", exponent", Found: fmt.Sprint(p.Exponent), Wanted: "a number that is not negative"}
	}
	return nil
}

// level is c.
func (p FireQPair) level(stat []float64) float64 {
	if p.Level != Auto {
		return p.Level
	}
	sum, alive := 0.0, 0
	for _, v := range stat {
		if v != 0 {
			sum += v
			alive++
		}
	}
	return sum / float64(max(alive, 1))
}
