package calibrate

import (
	"fmt"
	"math"
	"runtime"
	"sync"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

func newSite(site model.Site, k int) *SiteStats {
	return &SiteStats{
		Site: site, AbsMax: make([]float32, k),
		Sum: make([]float64, k), SumAbs: make([]float64, k), SumSq: make([]float64, k),
	}
}

// add folds the rows of x into s. Channels are shared out among workers, each
// of which adds the rows in order, so that the sums do not depend on their
// number.
func (s *SiteStats) add(x tensor.Matrix) {
	s.Tokens += int64(x.Rows)
	const fewest = 64 // channels, a few cache lines of a row
	overRange(x.Cols, fewest, func(from, to int) {
		top, sum, abs, sq := s.AbsMax[from:to], s.Sum[from:to], s.SumAbs[from:to], s.SumSq[from:to]
		for i := range x.Rows {
			row := x.Row(i)[from:to]
			for k, v := range row {
				a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
				d := float64(v)
				if a > top[k] {
					top[k] = a
				}
				sum[k] += d
				abs[k] += float64(a)
				sq[k] += float64(d * d) // no fused multiply-add: the same bits everywhere
			}
		}
	})
}

// check finds a channel that is not finite.
func (s *SiteStats) check() error {
	for k, v := range s.SumSq {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return &fault.Error{
				Err: ErrInvalid, Where: fmt.Sprintf("layer %d, %s, channel %d", s.Site.Layer, s.Site.Point, k),
				Found: fmt.Sprintf("activations with a sum of squares of %v", v), Wanted: "finite ones",
				Hint: "the model overflows on this text, or its weights are damaged",
			}
		}
	}
	return nil
}

// overRange shares [0, n) out over GOMAXPROCS goroutines in ranges of at least
// fewest.
func overRange(n, fewest int, work func(from, to int)) {
	workers := min(runtime.GOMAXPROCS(0), max(n/fewest, 1))
	var group sync.WaitGroup
	for w := 1; w < workers; w++ {
		group.Go(func() { work(w*n/workers, (w+1)*n/workers) })
	}
	work(0, n/workers)
	group.Wait()
}
