package smoothing

import (
	"fmt"
	"slices"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
)

// SmoothQuantOptions are the options of [SmoothQuant].
type SmoothQuantOptions struct {
	// Alpha, 0 to 1, is how much of an activation's outliers moves into the
	// weights. Published: 0.85 for Llama 2 and 3, 0.8 for Mistral.
	Alpha float64
	// Pairs are the sites of the feeds to scale; nil: the published ones, the
	// inputs of q, k, v and of gate, up.
	Pairs []model.Point
	// Alphas are tried in the place of Alpha when there are any, and the best of
	// them by the Objective is taken, which sees the rounding of weights alone.
	Alphas    []float64
	Objective *Objective
}

// SmoothQuant returns the scales of a block (Xiao et al. 2022, arXiv 2211.10438,
// eq. 4; methods.md 4.1):
//
//	s_j = max(1e-5, a_j^α / w_j^(1-α))
//	a_j = max |x_j| of the calibration tokens
//	w_j = max(1e-5, max |W_oj| over all rows of all consumers)
//
// Under grouped queries the maxima of a channel of v run over the columns of o
// that read it. p is the block as the earlier transforms left it, and stats are
// of its activations; neither is changed. An expert that no token reached is left
// alone. Bad options, and sites without statistics, are [ErrScale].
func SmoothQuant(cfg *model.Config, layer int, p model.Params, stats *calibrate.Stats, o SmoothQuantOptions) ([]FeedScale, error) {
	const least = 1e-5
	for _, alpha := range append([]float64{o.Alpha}, o.Alphas...) {
		if !(alpha >= 0 && alpha <= 1) {
			return nil, &fault.Error{Err: ErrScale, Where: "smoothquant alpha", Found: fmt.Sprint(alpha), Wanted: "0 to 1"}
		}
	}
	pairs := o.Pairs
	if pairs == nil {
		pairs = []model.Point{model.AttnIn, model.MLPIn}
	}
	return eachFeed(cfg, layer, p, func(b *smoothed, f model.Feed, w wires) ([]float64, error) {
		if !slices.Contains(pairs, f.Site.Base()) {
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
		columns := make([]float64, w.columns())
		for j, v := range observed.AbsMax {
			columns[j] = float64(v)
		}
		activations, weights := w.max(columns), w.max(b.magnitudes(f.To, w.columns()).max)
		scales := func(alpha float64) []float64 {
			s := make([]float64, w.channels())
			for j := range s {
				s[j] = max(power(activations[j], alpha)/power(max(weights[j], least), 1-alpha), least)
			}
			return s
		}
		if len(o.Alphas) > 0 {
			return o.Objective.best(b, site, f, w, o.Alphas, scales)
		}
		return scales(o.Alpha), nil
	})
}

// unreached reports a point of an expert that nothing is known about: no token
// came by.
func unreached(absent bool, p model.Point) bool {
	_, expert := p.Expert()
	return absent && expert >= 0
}

// statsOf returns the statistics of a site of k channels.
func statsOf(stats *calibrate.Stats, site model.Site, k int) (*calibrate.SiteStats, error) {
	where := fmt.Sprintf("layer %d, %s", site.Layer, site.Point)
	s := stats.Site(site)
	switch {
	case s == nil:
		return nil, &fault.Error{Err: ErrScale, Where: where, Found: "no statistics", Wanted: fmt.Sprintf("those of %d channels", k)}
	case s.Channels() != k:
		return nil, &fault.Error{Err: ErrScale, Where: where, Found: fmt.Sprintf("statistics of %d channels", s.Channels()), Wanted: fmt.Sprint(k)}
	}
	return s, nil
}
