package smoothing

import (
	"math"
	"runtime"
	"slices"
	"sync"

	"quantize/model"
)

// wires says which columns of the consumers of a feed read which channel of its
// producer: column (h*group + g)*dim + c reads channel h*dim + c.
type wires struct{ heads, group, dim int }

func wiresOf(cfg *model.Config, layer int, f model.Feed) wires {
	if f.Heads {
		return wires{heads: cfg.KVHeads, group: cfg.Heads / cfg.KVHeads, dim: cfg.HeadDim}
	}
	for _, l := range cfg.Linears(layer) { // a router is among To and not among these
		if slices.Contains(f.To, l.Name) {
			_, k := cfg.Shape(l.Role)
			return wires{heads: 1, group: 1, dim: k}
		}
	}
	panic("smoothing: a feed without a linear of the architecture")
}

func (w wires) channels() int { return w.heads * w.dim }

func (w wires) columns() int { return w.heads * w.group * w.dim }

// spread gives each column the value of its channel.
func (w wires) spread(channels []float64) []float64 {
	columns := make([]float64, 0, w.columns())
	for h := range w.heads {
		for range w.group {
			columns = append(columns, channels[h*w.dim:(h+1)*w.dim]...)
		}
	}
	return columns
}

// reduce gives each channel what add makes of the values of its columns.
func (w wires) reduce(columns []float64, add func(sum, v float64) float64) []float64 {
	channels := make([]float64, w.channels())
	for i, v := range columns {
		c := i/(w.group*w.dim)*w.dim + i%w.dim
		channels[c] = add(channels[c], v)
	}
	return channels
}

func (w wires) mean(columns []float64) []float64 {
	return w.reduce(columns, func(sum, v float64) float64 { return sum + v/float64(w.group) })
}

// max is the largest of values that are not negative.
func (w wires) max(columns []float64) []float64 {
	return w.reduce(columns, math.Max)
}

// smoothed is a block as it stands after the feeds that were chosen so far. Its
// tensors are not changed: only rows of producers differ, and a column is read
// before its own feed is chosen.
type smoothed struct {
	params  model.Params
	divisor map[string][]float64 // of the rows of a linear's weight; none: 1
	linears map[string]bool      // what is rounded: routers are not
}

// divisors returns what the rows of a linear are divided by.
func (b *smoothed) divisors(module string) []float64 {
	if d := b.divisor[module]; d != nil {
		return d
	}
	ones := make([]float64, b.params.Weight(module).Rows)
	for i := range ones {
		ones[i] = 1
	}
	return ones
}

// magnitudes are statistics of |W| by column over the concatenated rows of
// linears that read the same input.
type magnitudes struct{ max, mean []float64 }

// magnitudes takes them from the consumers to of k input features. A column is
// summed row by row, whatever the number of workers.
func (b *smoothed) magnitudes(to []string, k int) magnitudes {
	m := magnitudes{max: make([]float64, k), mean: make([]float64, k)}
	rows := 0
	for _, name := range to {
		w, d := b.params.Weight(name), b.divisors(name)
		rows += w.Rows
		sharedOut(k, fewestColumns, func(from, end int) {
			top, sum := m.max[from:end], m.mean[from:end]
			for i := range w.Rows {
				for j, v := range w.Row(i)[from:end] {
					a := math.Abs(v) / d[i]
					top[j] = max(top[j], a)
					sum[j] += a
				}
			}
		})
	}
	for j := range m.mean {
		m.mean[j] /= float64(rows)
	}
	return m
}

// chooser makes the vector of one feed, nil to leave it alone.
type chooser func(b *smoothed, f model.Feed, w wires) ([]float64, error)

// eachFeed asks for the vector of each feed of block p. Producers that are
// linears come first: dividing their rows changes the statistics that the
// feeds of the norms before them are made from (methods.md 1.6). Vectors are
// returned in the order of Config.Feeds.
func eachFeed(cfg *model.Config, layer int, p model.Params, vector chooser) ([]FeedScale, error) {
	b := &smoothed{params: p, divisor: map[string][]float64{}, linears: linearsOf(cfg, layer)}
	feeds := cfg.Feeds(layer)
	found := make([]FeedScale, len(feeds))
	for _, linears := range []bool{true, false} {
		for i, f := range feeds {
			if b.linears[f.From] != linears {
				continue
			}
			w := wiresOf(cfg, layer, f)
			s, err := vector(b, f, w)
			if err != nil {
				return nil, err
			}
			if s == nil {
				continue
			}
			found[i] = FeedScale{From: f.From, S: s}
			if err := checkScale(layer, found[i], w); err != nil {
				return nil, err
			}
			if linears {
				b.divisor[f.From] = s
			}
		}
	}
	return slices.DeleteFunc(found, func(fs FeedScale) bool { return fs.S == nil }), nil
}

// power is x^r in 24 bits: math.Pow may differ in the last of its 53 between
// processors.
func power(x, r float64) float64 {
	if r == 1 {
		return x
	}
	return float64(float32(math.Pow(x, r)))
}

func linearsOf(cfg *model.Config, layer int) map[string]bool {
	set := map[string]bool{}
	for _, l := range cfg.Linears(layer) {
		set[l.Name] = true
	}
	return set
}

const (
	fewestWeights = 1 << 14 // worth a goroutine
	fewestColumns = 64      // a few cache lines of a row
)

// sharedOut shares [0, n) out over GOMAXPROCS goroutines in ranges of at least
// fewest.
func sharedOut(n, fewest int, work func(from, end int)) {
	workers := min(runtime.GOMAXPROCS(0), max(n/fewest, 1))
	var group sync.WaitGroup
	for i := 1; i < workers; i++ {
		group.Go(func() { work(i*n/workers, (i+1)*n/workers) })
	}
	work(0, n/workers)
	group.Wait()
}
