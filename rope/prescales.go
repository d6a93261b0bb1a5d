package rope

import (
	"math"

	"quantize/calibrate"
	"quantize/model"
)

// Statistic is what [PreScales] takes for the size of a rotary pair.
type Statistic uint8

const (
	// MaxRadius is the largest radius over the calibration tokens, as published.
	MaxRadius Statistic = iota
	// RMSRadius is the root of the mean square radius, which no single token sets.
	RMSRadius
	// Deviation is the root of the mean square distance from the mean key after rotary
	// embedding: what a cache rounds that takes the means off (smooth K). A pair of slow
	// rotation with a large mean would otherwise count as large, be made small beside the
	// channels of its group, and get a coarse grid for the little that varies.
	Deviation
)

// PreOptions are the options of [PreScales].
type PreOptions struct {
	Alpha     float64   // the level that keys are brought to, more than 0; published: about 8
	Exponent  float64   // r, above 0 and at most 1; 0 stands for 1, as published
	Statistic Statistic // the size of a pair
}

// PreScales returns FireQ's factors of the keys of one layer before rotary
// embedding, (KVHeads*HeadDim) (docs/methods.md 1.9), from the statistics of
// model.KPre, for Deviation of model.KPost: for every pair i of KV head h
//
//	m = Gain · max over tokens of √(k_a² + k_b²)      MaxRadius
//	    Gain · √mean(k_a² + k_b²)                     RMSRadius
//	    √mean((k_a - k̄_a)² + (k_b - k̄_b)²)            Deviation
//	s = (Alpha / m)^r                                 m = 0: 1
//
// Rotation turns a pair and multiplies its radius by Gain alone, so that with r = 1
// and the maximum no cached key exceeds Alpha at any position. (FireQ's code has
// no Gain, which is the attention factor of YaRN.) A channel that is not rotated
// has a factor of its own, without Gain; under QK-norm all heads share the largest m.
//
// Errors: [ErrOption], and calibrate.ErrInvalid for statistics of another model.
func PreScales(l Layout, k *calibrate.SiteStats, o PreOptions) ([]float64, error) {
	r := o.Exponent
	if r == 0 {
		r = 1
	}
	switch {
	case !(o.Alpha > 0 && o.Alpha < 1e6):
		return nil, badOption("alpha", o.Alpha, "a positive level")
	case !(r > 0 && r <= 1):
		return nil, badOption("exponent", o.Exponent, "more than 0, at most 1")
	case o.Statistic > Deviation:
		return nil, badOption("statistic", o.Statistic, "the largest or the mean square radius, or the deviation")
	}
	point := model.KPre
	if o.Statistic == Deviation {
		point = model.KPost
	}
	if err := l.check(k, point, l.KVHeads); err != nil {
		return nil, err
	}
	size := l.gather(func(head, unit int, channels []int) float64 {
		switch o.Statistic {
		case RMSRadius:
			return l.rms(k, head, channels)
		case Deviation:
			return l.deviation(k, head, channels)
		default:
			return l.largest(k, head, unit, channels)
		}
	})
	return l.dense(func(head, unit int) float64 {
		m := size[head][unit]
		if m < dead {
			return 1
		}
		return math.Pow(o.Alpha/m, r)
	}), nil
}

// largest is the largest radius of a pair after rotation, or magnitude of a channel.
func (l Layout) largest(k *calibrate.SiteStats, head, unit int, channels []int) float64 {
	if len(channels) == 1 {
		return float64(k.AbsMax[head*l.HeadDim+channels[0]])
	}
	return l.Gain * float64(k.PairMax[head*l.Rotary/2+unit])
}

func (l Layout) rms(k *calibrate.SiteStats, head int, channels []int) float64 {
	var sum float64
	for _, c := range channels {
		sum += k.SumSq[head*l.HeadDim+c]
	}
	m := math.Sqrt(sum / float64(k.Tokens))
	if len(channels) == 2 {
		m *= l.Gain
	}
	return m
}

func (l Layout) deviation(k *calibrate.SiteStats, head int, channels []int) float64 {
	var sum float64
	for _, c := range channels {
		at := head*l.HeadDim + c
		mean := k.Sum[at] / float64(k.Tokens)
		sum += max(k.SumSq[at]/float64(k.Tokens)-mean*mean, 0) // not less than 0 but for rounding
	}
	return math.Sqrt(sum)
}
