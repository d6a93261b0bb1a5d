package rope

import (
	"cmp"
	"slices"

	"quantize/calibrate"
	"quantize/model"
)

// PostOptions are the options of [PostScales].
type PostOptions struct {
	TopK int     // channels of each head, the largest ones; their partners come with them
	Beta float64 // the level that they are brought to, more than 0; published: about 8
}

// PostScales returns FireQ's factors of the keys of one layer after rotary
// embedding (docs/methods.md 1.10), from the statistics k of model.KPost, measured on
// keys without any scaling:
//
//	M[h,c] = max over tokens of |k|                   under QK-norm: |pre·k|
//	I[h]   = TopK channels with the largest M and their partners
//	post   = Beta / M  for c in I[h], M > 0;  else 1  (KVHeads*HeadDim)
//
// They cannot be folded: the cache takes post·k, and queries are divided by post
// (packer.Sidecar keeps them, kernels.NewCache applies them).
//
// pre are the factors that [PreScales] or [SmoothAttentionScales] gave, nil for
// none; rest is what remains of them, for [Pre]. The pairs in I[h] are handled here
// alone, so that rest is 1 there and M, measured without pre, is what arrives.
// Where heads share a norm a pair of one head cannot be left out: there rest is pre,
// and M is what arrives after it. Without the one or the other the function of the
// model is the same, but keys miss their level.
//
// Errors: [ErrOption], and calibrate.ErrInvalid for statistics of another model.
func PostScales(l Layout, k *calibrate.SiteStats, pre []float64, o PostOptions) (post []float32, rest []float64, err error) {
	switch {
	case o.TopK < 0 || o.TopK > l.HeadDim:
		return nil, nil, badOption("top_k", o.TopK, "no more than the channels of a head")
	case !(o.Beta > 0 && o.Beta < 1e6):
		return nil, nil, badOption("beta", o.Beta, "a positive level")
	}
	if err := l.check(k, model.KPost, l.KVHeads); err != nil {
		return nil, nil, err
	}
	largest := make([]float64, len(k.AbsMax))
	post = make([]float32, len(largest))
	for c, m := range k.AbsMax {
		largest[c], post[c] = float64(m), 1
		if l.Shared && pre != nil {
			largest[c] *= pre[c]
		}
	}
	rest = slices.Clone(pre)
	for h := range l.KVHeads {
		first := h * l.HeadDim
		for _, c := range l.chosen(largest[first:first+l.HeadDim], o.TopK) {
			if m := largest[first+c]; m >= dead {
				post[first+c] = float32(o.Beta / m)
			}
			if rest != nil && !l.Shared {
				rest[first+c] = 1
			}
		}
	}
	return post, rest, nil
}

// chosen lists the n channels of a head with the largest statistics, the lower one
// of two that are equal, and their partners; each once.
func (l Layout) chosen(largest []float64, n int) []int {
	order := make([]int, len(largest))
	for c := range order {
		order[c] = c
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(largest[b], largest[a]) })
	channels := order[:n:n]
	for _, c := range order[:n] {
		if p := l.Pairing.Partner(c, l.Rotary); p >= 0 {
			channels = append(channels, p)
		}
	}
	slices.Sort(channels)
	return slices.Compact(channels)
}

// CachedMax returns the largest magnitude of each channel of the keys that the
// cache holds, (KVHeads*HeadDim), given the statistics k of model.KPost, measured
// without scaling, and the factors folded before rotation and applied after it; nil
// for none. An FP8 cache takes its scale from the largest of them.
func CachedMax(k *calibrate.SiteStats, pre []float64, post []float32) []float32 {
	top := slices.Clone(k.AbsMax)
	for c := range top {
		m := float64(top[c])
		if pre != nil {
			m *= pre[c]
		}
		if post != nil {
			m *= float64(post[c])
		}
		top[c] = float32(m)
	}
	return top
}
