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

// newSite makes the empty statistics of k channels and, of queries and keys, of
// their rotary pairs.
func newSite(site model.Site, k, pairs int) *SiteStats {
	s := &SiteStats{
		Site: site, AbsMax: make([]float32, k),
		Sum: make([]float64, k), SumAbs: make([]float64, k), SumSq: make([]float64, k),
	}
	if pairs > 0 {
		s.PairMax = make([]float32, pairs)
	}
	return s
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

// addPairs folds the rows of x into s.PairMax. pairs are those of one head.
func (s *SiteStats) addPairs(x tensor.Matrix, pairs [][2]int) {
	const fewest = 32 // pairs, as many channels as add takes
	overRange(len(s.PairMax), fewest, func(from, to int) {
		for i := range x.Rows {
			row := x.Row(i)
			for p := from; p < to; {
				head, first := p/len(pairs), p%len(pairs)
				n := min(len(pairs)-first, to-p)
				foldRadii(s.PairMax[p:p+n], row[2*len(pairs)*head:], pairs[first:first+n])
				p += n
			}
		}
	})
}

// foldRadii raises top to the radii of pairs of channels of one head.
func foldRadii(top, head []float32, pairs [][2]int) {
	for p, at := range pairs {
		a, b := float64(head[at[0]]), float64(head[at[1]])
		square := float64(a*a) + float64(b*b)
		// Rounding is monotone: a square below that of the rounded maximum has no
		// larger root.
		if t := float64(top[p]); square > float64(t*t) {
			top[p] = float32(math.Sqrt(square))
		}
	}
}

// check finds a channel or a pair that is not finite.
func (s *SiteStats) check() error {
	bad := func(what string, k int, found string) error {
		return &fault.Error{
			Err: ErrInvalid, Where: fmt.Sprintf("layer %d, %s, %s %d", s.Site.Layer, s.Site.Point, what, k),
			Found: found, Wanted: "finite ones", Hint: "the model overflows on this text, or its weights are damaged",
		}
	}
	for k, v := range s.SumSq {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return bad("channel", k, fmt.Sprintf("activations with a sum of squares of %v", v))
		}
	}
	for k, v := range s.AbsMax {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return bad("channel", k, fmt.Sprintf("activations with a largest magnitude of %v", v))
		}
	}
	for k, v := range s.PairMax {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return bad("pair", k, fmt.Sprintf("activations with a largest radius of %v", v))
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
