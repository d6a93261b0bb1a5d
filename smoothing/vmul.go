package smoothing

import "quantize/model"

// VMul returns the plan that multiplies the rows and the bias of v by c in every
// layer and divides the columns of o (FireQ's v_mul, published 0.9; methods.md
// 1.6). It moves where the scales of cached values fall on their grid, which is
// why a power of two does nothing but shift the range. c that is not positive
// and finite is [ErrScale].
func VMul(cfg *model.Config, c float64) (*Plan, error) {
	var scales []FeedScale
	for _, f := range cfg.Arch.Feeds {
		if f.Site != model.OIn {
			continue
		}
		s := make([]float64, wiresOf(cfg, 0, f).channels())
		for j := range s {
			s[j] = 1 / c
		}
		scales = append(scales, FeedScale{From: f.From, S: s})
	}
	t := NewPlan(cfg)
	for layer := range cfg.Layers {
		if err := t.Set(layer, scales); err != nil {
			return nil, err
		}
	}
	return t, nil
}
