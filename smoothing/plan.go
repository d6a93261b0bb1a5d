package smoothing

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
)

// ErrScale marks channel scales that cannot be applied, or statistics and
// options that none can be made from.
var ErrScale = errors.New("invalid channel scales")

// FeedScale is the vector of one [model.Feed] of a block.
type FeedScale struct {
	From string    // the feed's producer
	S    []float64 // one positive factor for each of its output channels
}

// Plan scales channels between the linears of a model: for each layer and feed
// a vector s, by which output channel j of From is divided and every column of
// To that reads it multiplied. A producer's bias is divided with its rows. With
// Feed.Heads, channel hkv*d + c of From is read by the G = Heads/KVHeads columns
// (hkv*G + g)*d + c (methods.md 0.1, 1.6).
//
// Layers are set in any order, also while other layers are folded; a layer or
// feed that was not set is left alone. Setting and folding may run at once.
type Plan struct {
	model.BlocksOnly
	config *model.Config

	mu     sync.RWMutex
	layers [][]FeedScale // by layer, in the order of Config.Feeds
}

var _ model.Transform = (*Plan)(nil)

// NewPlan returns the plan that leaves the model of cfg alone.
func NewPlan(cfg *model.Config) *Plan {
	return &Plan{config: cfg, layers: make([][]FeedScale, cfg.Layers)}
}

// Set gives the scales of a layer in the place of those it had; the vectors are
// copied. A layer that the model does not have, a producer that feeds nothing
// or is named twice, a vector of the wrong length and a factor that is not
// positive and finite, or whose inverse is not, are [ErrScale].
func (t *Plan) Set(layer int, scales []FeedScale) error {
	if layer < 0 || layer >= len(t.layers) {
		return &fault.Error{Err: ErrScale, Where: "layer", Found: fmt.Sprint(layer), Wanted: fmt.Sprintf("0 to %d", len(t.layers)-1)}
	}
	var kept []FeedScale
	for _, f := range t.config.Feeds(layer) {
		for _, fs := range scales {
			if fs.From != f.From {
				continue
			}
			if err := checkScale(layer, fs, wiresOf(t.config, layer, f)); err != nil {
				return err
			}
			kept = append(kept, FeedScale{From: fs.From, S: slices.Clone(fs.S)})
		}
	}
	for i, fs := range scales {
		if t.feed(layer, fs.From) == nil || slices.ContainsFunc(scales[:i], func(o FeedScale) bool { return o.From == fs.From }) {
			return &fault.Error{
				Err: ErrScale, Where: fmt.Sprintf("layer %d", layer),
				Found: fmt.Sprintf("producer %q", fs.From), Wanted: "each producer of the layer at most once",
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.layers[layer] = kept
	return nil
}

// Layer returns the scales of a layer in the order of Config.Feeds; the caller
// does not change them.
func (t *Plan) Layer(layer int) []FeedScale {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.layers[layer]
}

// Block divides producers and multiplies consumers.
func (t *Plan) Block(layer int, p model.Params) {
	for _, fs := range t.Layer(layer) {
		f := t.feed(layer, fs.From)
		divide(p, fs)
		columns := wiresOf(t.config, layer, *f).spread(fs.S)
		for _, to := range f.To {
			w := p.Weight(to)
			sharedOut(w.Rows, 1+fewestWeights/w.Cols, func(from, end int) {
				for i := from; i < end; i++ {
					row := w.Row(i)
					for j, s := range columns {
						row[j] *= s
					}
				}
			})
		}
	}
}

// Hessian turns the Hessian of a site of the model before scaling into that of
// the site after it, in place: x_j/s_j in the place of x_j.
func (t *Plan) Hessian(site model.Site, h *calibrate.Hessian) {
	for _, fs := range t.Layer(site.Layer) {
		f := t.feed(site.Layer, fs.From)
		if f.Site != site.Point {
			continue
		}
		columns := wiresOf(t.config, site.Layer, *f).spread(fs.S)
		if len(columns) != h.K {
			panic("smoothing: a Hessian of another width")
		}
		sharedOut(h.K, 1+fewestWeights/h.K, func(from, end int) {
			for i := from; i < end; i++ {
				row := h.Data[i*h.K : (i+1)*h.K]
				for j, s := range columns {
					row[j] /= columns[i] * s
				}
			}
		})
		return
	}
}

// divide divides the output channels of a producer: the elements of a norm's
// weight, or the rows of a linear's; and the bias.
func divide(p model.Params, fs FeedScale) {
	w := p.Weight(fs.From)
	if w.Rows == 1 {
		for j, s := range fs.S {
			w.Data[j] /= s
		}
	} else {
		sharedOut(w.Rows, 1+fewestWeights/w.Cols, func(from, end int) {
			for i := from; i < end; i++ {
				row := w.Row(i)
				for j := range row {
					row[j] /= fs.S[i]
				}
			}
		})
	}
	if bias := p.Bias(fs.From); bias != nil {
		for j, s := range fs.S {
			bias[j] /= s
		}
	}
}

// feed finds the feed of a producer, nil when there is none.
func (t *Plan) feed(layer int, from string) *model.Feed {
	feeds := t.config.Feeds(layer)
	if i := slices.IndexFunc(feeds, func(f model.Feed) bool { return f.From == from }); i >= 0 {
		return &feeds[i]
	}
	return nil
}

// Compose returns the plan that does what a and then b do. Both are of the same
// model, else it panics. Products that are not positive and finite are [ErrScale].
func Compose(a, b *Plan) (*Plan, error) {
	if len(a.layers) != len(b.layers) || a.config.Arch != b.config.Arch {
		panic("smoothing: plans of different models")
	}
	out := NewPlan(a.config)
	for layer := range out.layers {
		product := map[string][]float64{}
		var from []string
		for _, fs := range slices.Concat(a.Layer(layer), b.Layer(layer)) {
			s, twice := product[fs.From]
			if !twice {
				product[fs.From] = slices.Clone(fs.S)
				from = append(from, fs.From)
				continue
			}
			if len(s) != len(fs.S) {
				panic("smoothing: plans of different models")
			}
			for j, v := range fs.S {
				s[j] *= v
			}
		}
		scales := make([]FeedScale, len(from))
		for i, name := range from {
			scales[i] = FeedScale{From: name, S: product[name]}
		}
		if err := out.Set(layer, scales); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func checkScale(layer int, fs FeedScale, w wires) error {
	where := fmt.Sprintf("layer %d, scales of %s", layer, fs.From)
	if len(fs.S) != w.channels() {
		return &fault.Error{Err: ErrScale, Where: where, Found: fmt.Sprintf("%d channels", len(fs.S)), Wanted: fmt.Sprint(w.channels())}
	}
	for j, s := range fs.S {
		if !(s > 0) || math.IsInf(s, 0) || math.IsInf(1/s, 0) {
			return &fault.Error{
				Err: ErrScale, Where: fmt.Sprintf("%s, channel %d", where, j),
				Found: fmt.Sprint(s), Wanted: "a positive finite number with a finite inverse",
				Hint: "weights or activations are not finite?",
			}
		}
	}
	return nil
}
