package calibrate

import (
	"context"
	"slices"

	"quantize/model"
	"quantize/tensor"
)

// Options are the options of [Collect].
type Options struct {
	// Points limits the sites that are observed; nil: all. DownIn and ExpertIn stand
	// for those of every expert.
	Points []model.Point
	// Hessians names the points whose Hessian is summed, 8·K² bytes each and as
	// many as a block has experts.
	Hessians []model.Point
	// MatMulT forms the products of the Hessians; nil: plain Go, slow.
	MatMulT MatMulT
	// OnSites takes the sites of each block when it is done, in the order of
	// computation; an error ends the run. Hessians are then dropped; nil: they are
	// kept in Stats.
	OnSites func(sites []*SiteStats) error
	// OnBlock is called after each block.
	OnBlock func(done, total int)
}

// Collect runs windows through m, one block at a time, and returns the
// statistics of its sites. Activations that are not finite are ErrInvalid with
// layer, point and channel. A cancelled ctx ends it with ctx's error.
func Collect(ctx context.Context, m *model.Model, windows [][]int32, o Options) (*Stats, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := collector{options: o, gram: gram{product: o.MatMulT}, pairs: m.Config.Arch.Pairing.Pairs(m.Config.HeadDim)}
	if c.gram.product == nil {
		c.gram.product = PlainMatMulT
	}
	_, err := m.Stream(ctx, windows, model.StreamOptions{
		Observe: c.observe,
		OnBlock: func(done, total int) {
			if err := c.finish(); err != nil {
				stop(err)
			}
			if o.OnBlock != nil {
				o.OnBlock(done, total)
			}
		},
	})
	if cause := context.Cause(ctx); cause != nil { // also after the last block, where Stream no longer looks
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	stats := &Stats{Windows: len(windows), Sites: c.done}
	for _, w := range windows {
		stats.Tokens += int64(len(w))
	}
	return stats, nil
}

// collector holds the sites of the block that runs, and of those that ran.
type collector struct {
	options Options
	gram    gram
	pairs   [][2]int     // rotary pairs of one head
	current []*SiteStats // of this block, in the order seen
	done    []SiteStats
}

func (c *collector) observe(site model.Site, x tensor.Matrix) {
	if c.options.Points != nil && !slices.Contains(c.options.Points, site.Point.Base()) {
		return
	}
	i := slices.IndexFunc(c.current, func(s *SiteStats) bool { return s.Site == site })
	if i < 0 {
		i = len(c.current)
		pairs := 0
		if rotates(site.Point) {
			pairs = x.Cols / 2
		}
		s := newSite(site, x.Cols, pairs)
		if slices.Contains(c.options.Hessians, site.Point.Base()) {
			s.Hessian = &Hessian{K: x.Cols, Data: make([]float64, x.Cols*x.Cols)}
		}
		c.current = append(c.current, s)
	}
	s := c.current[i]
	s.add(x)
	if s.PairMax != nil {
		s.addPairs(x, c.pairs)
	}
	if s.Hessian != nil {
		c.gram.add(s.Hessian, x)
	}
}

// finish checks the block's sites and hands them on.
func (c *collector) finish() error {
	slices.SortFunc(c.current, func(a, b *SiteStats) int { return order(a.Site, b.Site) })
	for _, s := range c.current {
		if err := s.check(); err != nil {
			return err
		}
		if s.Hessian != nil {
			s.Hessian.mirror()
		}
	}
	if c.options.OnSites != nil {
		if err := c.options.OnSites(c.current); err != nil {
			return err
		}
	}
	for _, s := range c.current {
		if c.options.OnSites != nil {
			s.Hessian = nil
		}
		c.done = append(c.done, *s)
	}
	c.current = nil
	return nil
}
