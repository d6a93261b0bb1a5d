package rope

import (
	"math"

	"quantize/calibrate"
	"quantize/model"
)

// SmoothAttentionOptions are the options of [SmoothAttentionScales].
type SmoothAttentionOptions struct {
	Alpha float64 // exponent of the keys, 0 to 1; QServe: 0.5
	Beta  float64 // exponent of the queries, 0 to 1; QServe: 0
}

// SmoothAttentionScales returns QServe's factors of the keys of one layer before
// rotary embedding, (KVHeads*HeadDim) (docs/methods.md 4.4), from the statistics of
// model.KPost and, unless Beta is 0, model.QPost: for every pair of KV head h
//
//	K = max over the pair and the tokens of |k|      Q: the same of all query heads that read h
//	λ = K^α / Q^β                                    a factor of 0 in it counts as 1
//
// keys are divided by λ and queries multiplied by it. Under QK-norm K and Q are
// those of all heads. (The code that published it leaves biases alone, which
// changes the function; [Pre] does not.)
//
// Errors: [ErrOption], and calibrate.ErrInvalid for statistics of another model.
func SmoothAttentionScales(l Layout, k, q *calibrate.SiteStats, o SmoothAttentionOptions) ([]float64, error) {
	switch {
	case !(o.Alpha >= 0 && o.Alpha <= 1):
		return nil, badOption("alpha", o.Alpha, "0 to 1")
	case !(o.Beta >= 0 && o.Beta <= 1):
		return nil, badOption("beta", o.Beta, "0 to 1")
	}
	if err := l.check(k, model.KPost, l.KVHeads); err != nil {
		return nil, err
	}
	if o.Beta > 0 {
		if err := l.check(q, model.QPost, l.Heads); err != nil {
			return nil, err
		}
	}
	group := l.Heads / l.KVHeads
	keys := l.gather(func(head, _ int, channels []int) float64 {
		return l.largestOf(k, head, head+1, channels)
	})
	queries := l.gather(func(head, _ int, channels []int) float64 {
		if o.Beta == 0 {
			return 0
		}
		return l.largestOf(q, head*group, (head+1)*group, channels)
	})
	return l.dense(func(head, unit int) float64 {
		return power(queries[head][unit], o.Beta) / power(keys[head][unit], o.Alpha)
	}), nil
}

// largestOf is the largest magnitude of some channels of heads [from, to).
func (l Layout) largestOf(s *calibrate.SiteStats, from, to int, channels []int) float64 {
	top := 0.0
	for h := from; h < to; h++ {
		for _, c := range channels {
			top = max(top, float64(s.AbsMax[h*l.HeadDim+c]))
		}
	}
	return top
}

func power(m, exponent float64) float64 {
	if m < dead {
		return 1
	}
	return math.Pow(m, exponent)
}
