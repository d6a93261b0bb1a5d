package rope_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/rope"
)

const (
	alpha = 8.0
	beta  = 5.0
	// slack covers statistics that are rounded to FP32 (2^-24) and factors that are.
	slack = 1e-6
)

// columns returns the largest magnitude of each channel.
func columns(x [][]float64) []float64 {
	top := make([]float64, len(x[0]))
	for _, row := range x {
		for c, v := range row {
			top[c] = max(top[c], math.Abs(v))
		}
	}
	return top
}

// anywhere returns the largest magnitude of each channel with every key moved to
// positions of its own.
func (m *twin) anywhere(k [][]float64) []float64 {
	rng := rand.New(rand.NewPCG(11, 11))
	var moved [][]float64
	for _, row := range k {
		for range 40 {
			r := append([]float64(nil), row...)
			m.turn(r, float64(rng.IntN(1<<17)))
			moved = append(moved, r)
		}
	}
	return columns(moved)
}

// A wrong split of a factor over q and k preserves the function; that keys keep
// their level, wherever they stand, is what shows it.
func TestPreBringsKeysToAlpha(t *testing.T) {
	t.Parallel()
	everyModel(t, func(t *testing.T, m *twin) {
		p := m.build(t, m.statistics(), way{fireq: &rope.PreOptions{Alpha: alpha}})
		moved, _ := m.weights.Apply(m.config, p.pre)
		for layer, r := range m.attention(moved, nil) {
			for c, v := range m.anywhere(r.k) {
				if v > alpha*(1+slack) {
					t.Errorf("layer %d, channel %d: a key of %v", layer, c, v)
				}
			}
			for i, radius := range m.describe(layer, model.KPost, r.k).PairMax {
				shared := m.layout.Shared // the largest head sets the factor of the others
				if !shared && math.Abs(float64(radius)-alpha) > alpha*slack || shared && radius > alpha*(1+slack) {
					t.Errorf("layer %d, pair %d: radius %v, want %v", layer, i, radius, alpha)
				}
			}
		}
	})
}

// Negative control: the largest channel of a pair is not its radius.
func TestPairMaximumIsNotEnough(t *testing.T) {
	t.Parallel()
	m := newTwin(1, shape("llama tied, 4 queries a key"), model.HalfSplit)
	stats := m.statistics()
	p := rope.NewPre(m.config)
	for layer := range p.ByLayer {
		s := site(stats, layer, model.KPre)
		for i, pair := range m.config.Arch.Pairing.Pairs(m.config.HeadDim) {
			s.PairMax[i] = max(s.AbsMax[pair[0]], s.AbsMax[pair[1]])
		}
		scales, err := rope.PreScales(m.layout, s, rope.PreOptions{Alpha: alpha})
		if err != nil {
			t.Fatal(err)
		}
		p.ByLayer[layer] = scales
	}
	moved, _ := m.weights.Apply(m.config, p)
	top := 0.0
	for _, r := range m.attention(moved, nil) {
		for _, v := range m.anywhere(r.k) {
			top = max(top, v)
		}
	}
	if top < 1.05*alpha {
		t.Errorf("keys up to %v: the check would not see a wrong statistic", top)
	}
}

// YaRN multiplies every rotated radius.
func TestYarnGainCounts(t *testing.T) {
	t.Parallel()
	m := newTwin(4, shape("llama yarn"), model.HalfSplit)
	if m.layout.Gain < 1.1 {
		t.Fatalf("gain %v: not the shape with YaRN", m.layout.Gain)
	}
	m.layout.Gain = 1
	p := m.build(t, m.statistics(), way{fireq: &rope.PreOptions{Alpha: alpha}})
	moved, _ := m.weights.Apply(m.config, p.pre)
	top := 0.0
	for _, r := range m.attention(moved, nil) {
		for _, radius := range m.describe(0, model.KPost, r.k).PairMax {
			top = max(top, float64(radius))
		}
	}
	if top < 1.1*alpha {
		t.Errorf("keys up to %v without the gain: the check would not see it missing", top)
	}
}

// offLevel counts channels of scaled keys that are not where the plan puts them:
// beta exactly on those scaled after rotation, at most alpha on the others.
func (m *twin) offLevel(p plan) (selected, wrong int) {
	moved, _ := m.weights.Apply(m.config, p.pre)
	for layer, r := range m.attention(moved, p.post) {
		for c, v := range columns(r.k) {
			limit := alpha
			if p.post[layer][c] != 1 {
				selected++
				limit = beta
				if v < beta*(1-slack) {
					wrong++
				}
			}
			if v > limit*(1+slack) {
				wrong++
			}
		}
	}
	return selected, wrong
}

func TestPreAndPostBringKeysToTheirLevels(t *testing.T) {
	t.Parallel()
	everyModel(t, func(t *testing.T, m *twin) {
		stats := m.statistics()
		for _, topK := range []int{1, 2, 3} {
			w := way{fireq: &rope.PreOptions{Alpha: alpha}, post: &rope.PostOptions{TopK: topK, Beta: beta}}
			p := m.build(t, stats, w)
			selected, wrong := m.offLevel(p)
			if least := topK * m.config.KVHeads * m.config.Layers; selected < least || wrong > 0 {
				t.Errorf("top %d: %d channels scaled after rotation, %d off their level", topK, selected, wrong)
			}

			// Negative control: both stages on the same channels, or statistics of
			// unscaled keys where the first stage stays.
			bad := plan{pre: rope.NewPre(m.config)}
			for layer := range m.config.Layers {
				s := site(stats, layer, model.KPost)
				pre, err := rope.PreScales(m.layout, site(stats, layer, model.KPre), *w.fireq)
				if err != nil {
					t.Fatal(err)
				}
				post, _, err := rope.PostScales(m.layout, s, nil, *w.post)
				if err != nil {
					t.Fatal(err)
				}
				bad.pre.ByLayer[layer], bad.post = pre, append(bad.post, post)
			}
			if _, wrong := m.offLevel(bad); wrong == 0 {
				t.Errorf("top %d: a missing reset is not seen", topK)
			}
			if d := farthest(m.logits(bad, m.windows[0]), modeltest.Logits(m.config, m.weights, m.windows[0])); d > 1e-9 {
				t.Errorf("top %d: a missing reset changed the logits by %g", topK, d)
			}
		}
	})
}

// With both exponents at one half, keys and queries of every pair meet at one
// level.
func TestSmoothAttentionBalances(t *testing.T) {
	t.Parallel()
	everyModel(t, func(t *testing.T, m *twin) {
		p := m.build(t, m.statistics(), way{smooth: &rope.SmoothAttentionOptions{Alpha: 0.5, Beta: 0.5}})
		moved, _ := m.weights.Apply(m.config, p.pre)
		d, group := m.config.HeadDim, m.config.Heads/m.config.KVHeads
		for layer, r := range m.attention(moved, nil) {
			k, q := columns(r.k), columns(r.q)
			largest := func(columns []float64, from, to int, pair [2]int) float64 {
				top := 0.0
				for h := from; h < to; h++ {
					top = max(top, columns[h*d+pair[0]], columns[h*d+pair[1]])
				}
				return top
			}
			for h := range m.config.KVHeads {
				from, to := h, h+1
				if m.layout.Shared {
					from, to = 0, m.config.KVHeads
				}
				for i, pair := range m.config.Arch.Pairing.Pairs(d) {
					a, b := largest(k, from, to, pair), largest(q, from*group, to*group, pair)
					if math.Abs(a-b) > slack*a {
						t.Errorf("layer %d, head %d, pair %d: keys to %v, queries to %v", layer, h, i, a, b)
					}
				}
			}
		}
	})
}
