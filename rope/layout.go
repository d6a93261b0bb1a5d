package rope

import (
	"fmt"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/recipe"
)

// ErrOption marks an option out of its range. It is also a [recipe.ErrInvalid].
var ErrOption = fmt.Errorf("invalid rotary scaling: %w", recipe.ErrInvalid)

// Layout says how queries and keys lie in a row and which channels of a head
// are bound to one factor.
type Layout struct {
	Heads, KVHeads, HeadDim int

	Rotary  int           // channels of a head that are rotated, the first ones; the others have no partner
	Pairing model.Pairing // which of them are rotated together
	Gain    float64       // what rotation multiplies radii by; 1 except for YaRN
	Shared  bool          // QK-norm: all heads have one weight, hence one factor
}

// LayoutOf is the layout of a model.
func LayoutOf(c *model.Config) Layout {
	return Layout{
		Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim,
		Rotary: c.HeadDim, Pairing: c.Arch.Pairing, Gain: c.Rope.AttentionFactor, Shared: c.Arch.KNorm != "",
	}
}

// kv is the channel of keys that channel c of the queries meets.
func (l Layout) kv(c int) int {
	head, channel := c/l.HeadDim, c%l.HeadDim
	return head/(l.Heads/l.KVHeads)*l.HeadDim + channel
}

// units lists the channels of a head that have one factor: the rotary pairs,
// then every channel that is not rotated.
func (l Layout) units() [][]int {
	var units [][]int
	for _, p := range l.Pairing.Pairs(l.Rotary) {
		units = append(units, p[:])
	}
	for c := l.Rotary; c < l.HeadDim; c++ {
		units = append(units, []int{c})
	}
	return units
}

// table holds one number for each unit of each KV head.
type table [][]float64

// gather fills a table. Where heads share their factors it holds the largest of
// all heads.
func (l Layout) gather(statistic func(head, unit int, channels []int) float64) table {
	units := l.units()
	t := make(table, l.KVHeads)
	for h := range t {
		t[h] = make([]float64, len(units))
		for u, channels := range units {
			t[h][u] = statistic(h, u, channels)
		}
	}
	if l.Shared {
		for u := range units {
			for h := range t {
				t[0][u] = max(t[0][u], t[h][u])
			}
		}
		for h := range t {
			copy(t[h], t[0])
		}
	}
	return t
}

// dense spreads the factor of each unit over its channels, (KVHeads*HeadDim).
func (l Layout) dense(factor func(head, unit int) float64) []float64 {
	all := make([]float64, l.KVHeads*l.HeadDim)
	for u, channels := range l.units() {
		for h := range l.KVHeads {
			f := factor(h, u)
			for _, c := range channels {
				all[h*l.HeadDim+c] = f
			}
		}
	}
	return all
}

// check demands statistics s of point p of that many heads.
func (l Layout) check(s *calibrate.SiteStats, p model.Point, heads int) error {
	if s == nil {
		return &fault.Error{Err: calibrate.ErrInvalid, Where: string(p), Found: "no statistics", Wanted: "those of the calibration text"}
	}
	pairs := heads * l.Rotary / 2
	if s.Site.Point != p || s.Channels() != heads*l.HeadDim || len(s.PairMax) != pairs || s.Tokens < 1 {
		return &fault.Error{
			Err: calibrate.ErrInvalid, Where: fmt.Sprintf("layer %d, %s", s.Site.Layer, s.Site.Point),
			Found:  fmt.Sprintf("%d tokens of %d channels and %d rotary pairs", s.Tokens, s.Channels(), len(s.PairMax)),
			Wanted: fmt.Sprintf("tokens of %s, %d channels and %d pairs", p, heads*l.HeadDim, pairs),
			Hint:   "the statistics belong to another model: run quantize calibrate again",
		}
	}
	return nil
}

// dead is the magnitude below which a channel counts as zero and is left
// alone: a factor stays far from where FP32 weights overflow.
const dead = 0x1p-60

func badOption(field string, found any, wanted string) error {
	return &fault.Error{Err: ErrOption, Where: field, Found: fmt.Sprint(found), Wanted: wanted}
}
