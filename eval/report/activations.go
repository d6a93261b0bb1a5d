package report

import (
	"math"

	"quantize/calibrate"
	"quantize/model"
	"quantize/packer"
)

// Observed are the statistics of both models on the windows of one text.
type Observed struct {
	Text      string
	Base      *calibrate.Stats
	Quantized *calibrate.Stats
}

// Activations is what the channels of both models reach on a text.
type Activations struct {
	Text    string
	Tokens  int64
	Windows int
	Sites   []SitePeak
	// Max |x| of the channels of keys and values, each of the block where those of
	// the base stand out most.
	KeysPre, KeysPost, Values []Magnitude
	Block                     int // that of the keys
	VBlock                    int // that of the values
}

// SitePeak is how far the channels of an activation stand out.
type SitePeak struct {
	Block         int
	Point         string
	Before, After Peak
	Cached        *Peak // of keys with post-RoPE scales: as they are cached
}

// Magnitude is one row of channels.
type Magnitude struct {
	Name     string
	Channels []float64
}

// points names the activations that are compared. The inputs of the linears are left
// in the basis that each model has them in.
var points = []struct {
	point model.Point
	name  string
}{
	{model.AttnIn, "input of q, k, v"},
	{model.KPre, "keys before RoPE"},
	{model.KPost, "keys after RoPE"},
	{model.V, "values"},
	{model.OIn, "input of o"},
	{model.MLPIn, "input of gate, up"},
	{model.DownIn, "input of down"},
}

// Points lists the activations that [Observed] needs.
func Points() []model.Point {
	var all []model.Point
	for _, p := range points {
		all = append(all, p.point)
	}
	return all
}

// activations compares the statistics, site by site.
func (b *builder) activations() {
	o := b.in.Observed
	if o == nil {
		return
	}
	a := &Activations{Text: o.Text, Tokens: o.Quantized.Tokens, Windows: o.Quantized.Windows}
	worstKey, worstValue := math.Inf(-1), math.Inf(-1)
	for layer := range b.config.Layers {
		for _, p := range points {
			site := model.Site{Layer: layer, Point: p.point}
			before, after := o.Base.Site(site), o.Quantized.Site(site)
			if before == nil || after == nil {
				continue
			}
			x, y := widen(before.AbsMax), widen(after.AbsMax)
			s := SitePeak{Block: layer, Point: p.name, Before: *newPeak(x), After: *newPeak(y)}
			if p.point == model.KPost {
				if cached := b.cachedKeys(layer, y); cached != nil {
					s.Cached = newPeak(cached)
				}
			}
			a.Sites = append(a.Sites, s)
			if p.point == model.KPre && s.Before.Ratio > worstKey {
				worstKey, a.Block = s.Before.Ratio, layer
			}
			if p.point == model.V && s.Before.Ratio > worstValue {
				worstValue, a.VBlock = s.Before.Ratio, layer
			}
		}
	}
	if len(a.Sites) == 0 {
		return
	}
	row := func(list *[]Magnitude, name string, stats *calibrate.Stats, site model.Site) []float64 {
		s := stats.Site(site)
		if s == nil {
			return nil
		}
		*list = append(*list, Magnitude{name, widen(s.AbsMax)})
		return widen(s.AbsMax)
	}
	pre, post := model.Site{Layer: a.Block, Point: model.KPre}, model.Site{Layer: a.Block, Point: model.KPost}
	row(&a.KeysPre, "base", o.Base, pre)
	row(&a.KeysPre, "quantized", o.Quantized, pre)
	row(&a.KeysPost, "base", o.Base, post)
	if keys := row(&a.KeysPost, "quantized", o.Quantized, post); keys != nil {
		if cached := b.cachedKeys(a.Block, keys); cached != nil {
			a.KeysPost = append(a.KeysPost, Magnitude{"quantized, as cached", cached})
		}
	}
	values := model.Site{Layer: a.VBlock, Point: model.V}
	row(&a.Values, "base", o.Base, values)
	row(&a.Values, "quantized", o.Quantized, values)
	b.report.Activations = a
}

// cachedKeys applies the post-RoPE scales of a layer, nil where it has none.
func (b *builder) cachedKeys(layer int, keys []float64) []float64 {
	scales := layerOf(b.sidecar, layer, func(s *packer.Sidecar) [][]float32 { return s.KeyScales })
	if len(scales) != len(keys) {
		return nil
	}
	out := make([]float64, len(keys))
	for k, v := range keys {
		out[k] = v * float64(scales[k])
	}
	return out
}

func widen(x []float32) []float64 {
	out := make([]float64, len(x))
	for k, v := range x {
		out[k] = float64(v)
	}
	return out
}
