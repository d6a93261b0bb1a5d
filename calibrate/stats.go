package calibrate

import (
	"cmp"
	"slices"

	"quantize/model"
)

// Stats are the statistics of one run.
type Stats struct {
	Windows int
	Tokens  int64
	// Meta is what the caller wants to remember: model, files, seed.
	Meta  map[string]string
	Sites []SiteStats // by layer, then by place in the block, then by expert
}

// SiteStats describes one named activation x (Tokens, K), channel by channel.
type SiteStats struct {
	Site   model.Site
	Tokens int64
	AbsMax []float32 // (K) max |x|
	Sum    []float64 // (K) Σ x
	SumAbs []float64 // (K) Σ |x|
	SumSq  []float64 // (K) Σ x²: the diagonal of the Hessian
	// PairMax is max √(x_a² + x_b²) over the two channels of each rotary pair,
	// (heads·HeadDim/2) in the order of model.Pairing.Pairs: the largest radius,
	// which rotation leaves alone. Queries and keys only, nil elsewhere. (The mean
	// square of a radius is the sum of its channels' in SumSq.)
	PairMax []float32
	Hessian *Hessian // nil unless asked for and kept
}

// Site returns the statistics of a site, nil if it was not observed.
func (s *Stats) Site(site model.Site) *SiteStats {
	i, ok := slices.BinarySearchFunc(s.Sites, site, func(a SiteStats, b model.Site) int { return order(a.Site, b) })
	if !ok {
		return nil
	}
	return &s.Sites[i]
}

// Channels is K.
func (s *SiteStats) Channels() int { return len(s.AbsMax) }

// Mean returns Σx/Tokens per channel.
func (s *SiteStats) Mean() []float64 { return over(s.Sum, s.Tokens) }

// MeanAbs returns Σ|x|/Tokens per channel.
func (s *SiteStats) MeanAbs() []float64 { return over(s.SumAbs, s.Tokens) }

// MeanSquare returns Σx²/Tokens per channel.
func (s *SiteStats) MeanSquare() []float64 { return over(s.SumSq, s.Tokens) }

// rotates reports whether the channels of a point are turned in pairs.
func rotates(p model.Point) bool {
	return p == model.QPre || p == model.KPre || p == model.QPost || p == model.KPost
}

func over(sum []float64, tokens int64) []float64 {
	mean := make([]float64, len(sum))
	for k, v := range sum {
		mean[k] = v / float64(max(tokens, 1))
	}
	return mean
}

// points is the order of computation within a block.
var points = []model.Point{
	model.AttnIn, model.QPre, model.KPre, model.QPost, model.KPost, model.V, model.OIn, model.MLPIn, model.ExpertIn, model.DownIn,
}

// order sorts sites by layer, by place in the block and by expert, unknown points
// last.
func order(a, b model.Site) int {
	place := func(p model.Point) int {
		if i := slices.Index(points, p); i >= 0 {
			return i
		}
		return len(points)
	}
	p, i := a.Point.Expert()
	q, j := b.Point.Expert()
	return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(place(p), place(q)), cmp.Compare(i, j), cmp.Compare(p, q))
}
