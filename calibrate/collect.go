package calibrate

import (
	"context"
	"slices"

	"quantize/checkpoint"
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
	// Buffer bounds the memory of the hidden states of all windows.
	Buffer model.Buffer
	// Phase keeps what is done in a journal; nil: nowhere.
	Phase *Phase
}

// Collect runs windows through m, one block at a time, and returns the
// statistics of its sites. Activations that are not finite are ErrInvalid with
// layer, point and channel. A cancelled ctx ends it with ctx's error.
func Collect(ctx context.Context, m *model.Model, windows [][]int32, o Options) (*Stats, error) {
	c := collector{options: o, gram: gram{product: o.MatMulT}, pairs: m.Config.Arch.Pairing.Pairs(m.Config.HeadDim)}
	if c.gram.product == nil {
		c.gram.product = PlainMatMulT
	}
	part, from, err := o.Phase.restore(&c)
	defer func() { _ = part.Close() }() // it was only read
	if err != nil {
		return nil, err
	}
	if from < m.Config.Layers {
		if err := c.run(ctx, m, windows, part, from); err != nil {
			return nil, err
		}
	}
	stats := &Stats{Windows: len(windows), Sites: c.done}
	for _, w := range windows {
		stats.Tokens += int64(len(w))
	}
	return stats, nil
}

// run streams the blocks from one on, whose input an earlier run has left in part.
func (c *collector) run(ctx context.Context, m *model.Model, windows [][]int32, part *checkpoint.Part, from int) error {
	hidden, err := m.EmbedIn(windows, c.options.Buffer)
	if err != nil {
		return err
	}
	defer func() { _ = hidden.Close() }() // what it held is of no use now
	if from > 0 {
		if err := hidden.Fill(part.Section("hidden")); err != nil {
			return err
		}
	}
	return m.Blocks(ctx, hidden, from, model.StreamOptions{Observe: c.observe}, func(done int) error {
		if err := c.finish(); err != nil {
			return err
		}
		if c.options.OnBlock != nil {
			c.options.OnBlock(done, m.Config.Layers)
		}
		return c.options.Phase.keep(c, done, m.Config.Layers, hidden)
	})
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
