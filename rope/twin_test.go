package rope_test

import (
	"fmt"
	"math"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/rope"
)

// twin is a random model in float64 with the text its scales are made from.
type twin struct {
	config  *model.Config
	weights modeltest.Float64
	source  *modeltest.Checkpoint
	layout  rope.Layout
	windows [][]int32
}

// everyModel runs test for every architecture under both pairings.
func everyModel(t *testing.T, test func(t *testing.T, m *twin)) {
	for i, shape := range modeltest.Shapes() {
		for name, pairing := range map[string]model.Pairing{"half split": model.HalfSplit, "interleaved": model.Interleaved} {
			t.Run(shape.Name+", "+name, func(t *testing.T) {
				t.Parallel()
				test(t, newTwin(uint64(i+1), shape, pairing))
			})
		}
	}
}

func newTwin(seed uint64, shape modeltest.Shape, pairing model.Pairing) *twin {
	c := modeltest.Random(seed, shape)
	cfg := c.Parsed()
	arch := *cfg.Arch
	arch.Pairing, cfg.Arch = pairing, &arch
	m := &twin{config: cfg, weights: c.Widen(), source: c, layout: rope.LayoutOf(cfg)}
	for w := range 3 {
		m.windows = append(m.windows, modeltest.Tokens(seed+uint64(w), 14, cfg.Vocab))
	}
	return m
}

func shape(name string) modeltest.Shape {
	for _, s := range modeltest.Shapes() {
		if s.Name == name {
			return s
		}
	}
	panic("no shape " + name)
}

// rows are queries and keys of one layer, (tokens of all windows, channels).
type rows struct{ q, k [][]float64 }

// attention returns the queries and keys of every layer after rotary embedding
// and, where post is given, after its factors.
func (m *twin) attention(weights modeltest.Float64, post [][]float32) []rows {
	seen := make([]rows, m.config.Layers)
	apply := m.online(post)
	for _, w := range m.windows {
		modeltest.LogitsOnline(m.config, weights, w, modeltest.Online{QK: func(layer int, q, k [][]float64) {
			apply.QK(layer, q, k)
			for i := range q {
				seen[layer].q = append(seen[layer].q, append([]float64(nil), q[i]...))
				seen[layer].k = append(seen[layer].k, append([]float64(nil), k[i]...))
			}
		}})
	}
	return seen
}

// online multiplies keys and divides queries after rotary embedding.
func (m *twin) online(post [][]float32) modeltest.Online {
	d, group := m.config.HeadDim, m.config.Heads/m.config.KVHeads
	return modeltest.Online{QK: func(layer int, q, k [][]float64) {
		if post == nil {
			return
		}
		for i := range k {
			for c := range k[i] {
				k[i][c] *= float64(post[layer][c])
			}
			for h := range m.config.Heads {
				for c := range d {
					q[i][h*d+c] /= float64(post[layer][h/group*d+c])
				}
			}
		}
	}}
}

// statistics of queries and keys of all layers, of the float64 values.
func (m *twin) statistics() *calibrate.Stats {
	stats := &calibrate.Stats{}
	for layer, r := range m.attention(m.weights, nil) {
		stats.Sites = append(
			stats.Sites,
			m.describe(layer, model.KPre, m.before(r.k)),
			m.describe(layer, model.QPost, r.q),
			m.describe(layer, model.KPost, r.k),
		)
	}
	return stats
}

func (m *twin) describe(layer int, p model.Point, x [][]float64) calibrate.SiteStats {
	s := calibrate.SiteStats{
		Site: model.Site{Layer: layer, Point: p}, Tokens: int64(len(x)),
		AbsMax: make([]float32, len(x[0])), SumSq: make([]float64, len(x[0])), PairMax: make([]float32, len(x[0])/2),
	}
	d := m.config.HeadDim
	for _, row := range x {
		for c, v := range row {
			s.AbsMax[c] = max(s.AbsMax[c], float32(math.Abs(v)))
			s.SumSq[c] += v * v
		}
		for h := range len(row) / d {
			for i, pair := range m.config.Arch.Pairing.Pairs(d) {
				at := &s.PairMax[h*d/2+i]
				*at = max(*at, float32(math.Hypot(row[h*d+pair[0]], row[h*d+pair[1]])))
			}
		}
	}
	return s
}

// before undoes rotary embedding: row i belongs to position i of its window.
func (m *twin) before(x [][]float64) [][]float64 {
	out := make([][]float64, len(x))
	for i, row := range x {
		out[i] = append([]float64(nil), row...)
		m.turn(out[i], -float64(i%len(m.windows[0])))
		for c := range out[i] {
			out[i][c] /= m.config.Rope.AttentionFactor
		}
	}
	return out
}

// turn rotates every head of a row by a number of positions.
func (m *twin) turn(row []float64, positions float64) {
	d := m.config.HeadDim
	inv := m.config.Rope.InvFreq(d)
	for h := range len(row) / d {
		head := row[h*d : (h+1)*d]
		for i, f := range inv {
			a, b := i, i+d/2
			if m.config.Arch.Pairing == model.Interleaved {
				a, b = 2*i, 2*i+1
			}
			sin, cos := math.Sincos(float64(f) * positions)
			head[a], head[b] = head[a]*cos-head[b]*sin, head[b]*cos+head[a]*sin
		}
	}
}

// plan is what a recipe makes of a model.
type plan struct {
	pre  *rope.Pre
	post [][]float32
}

// logits returns the logits of a window under a plan.
func (m *twin) logits(p plan, window []int32) [][]float64 {
	moved, cfg := m.weights.Apply(m.config, p.pre)
	return modeltest.LogitsOnline(cfg, moved, window, m.online(p.post))
}

// farthest is the largest difference relative to the range of want.
func farthest(got, want [][]float64) float64 {
	low, high, most := math.Inf(1), math.Inf(-1), 0.0
	for i := range want {
		for j, v := range want[i] {
			low, high = min(low, v), max(high, v)
			most = max(most, math.Abs(got[i][j]-v))
		}
	}
	return most / (high - low)
}

func site(stats *calibrate.Stats, layer int, p model.Point) *calibrate.SiteStats {
	for i := range stats.Sites {
		if s := &stats.Sites[i]; s.Site == (model.Site{Layer: layer, Point: p}) {
			return s
		}
	}
	panic(fmt.Sprintf("no statistics of layer %d, %s", layer, p))
}

// build makes the plan of one way of scaling for every layer.
func (m *twin) build(t *testing.T, stats *calibrate.Stats, w way) plan {
	t.Helper()
	p := plan{pre: rope.NewPre(m.config)}
	for layer := range m.config.Layers {
		var scales []float64
		var err error
		switch {
		case w.fireq != nil:
			scales, err = rope.PreScales(m.layout, site(stats, layer, model.KPre), *w.fireq)
		case w.smooth != nil:
			scales, err = rope.SmoothAttentionScales(m.layout, site(stats, layer, model.KPost), site(stats, layer, model.QPost), *w.smooth)
		}
		if err != nil {
			t.Fatal(err)
		}
		if w.post != nil {
			var post []float32
			if post, scales, err = rope.PostScales(m.layout, site(stats, layer, model.KPost), scales, *w.post); err != nil {
				t.Fatal(err)
			}
			p.post = append(p.post, post)
		}
		p.pre.ByLayer[layer] = scales
	}
	return p
}

// way is one way of scaling.
type way struct {
	name   string
	fireq  *rope.PreOptions
	smooth *rope.SmoothAttentionOptions
	post   *rope.PostOptions
}
