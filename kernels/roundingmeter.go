package kernels

import (
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// RoundingOptions say what a [RoundingMeter] rounds.
type RoundingOptions struct {
	// Inputs rounds the inputs x (M, K) of linears into dst as the kernels do; nil: they
	// are not rounded.
	Inputs func(dst, x tensor.Matrix)
	// Scheme and Sidecar are those of the cache.
	Scheme  packer.KVScheme
	Sidecar *packer.Sidecar
	// KeyFactors are those that keys were multiplied by before rotary embedding, by
	// layer, (KVHeads*HeadDim); nil, or nil of a layer: none.
	KeyFactors [][]float64
}

// RoundingMeter measures what FP8 activations and a cache's format cost each layer of a
// model that does neither. It is for one forward pass at a time.
type RoundingMeter struct {
	cfg     *model.Config
	o       RoundingOptions
	cache   cacheFunc // of the scheme; nil: it keeps everything
	plain   cacheFunc // the same without scales; nil: there are none to leave out
	inputs  []map[model.Point]*fidelitySums
	caches  []cacheSums
	tokens  int64
	rounded tensor.Matrix // inputs
	k, v    [2]tensor.Matrix
}

type cacheFunc = func(layer int, q, k, v tensor.Matrix)

type cacheSums struct{ scores, unscaled, values fidelitySums }

// measuredQueries of a window are those whose scores are formed, evenly spaced.
const measuredQueries = 16

// NewRoundingMeter makes a meter for a model. Errors are those of [NewCache].
func NewRoundingMeter(cfg *model.Config, o RoundingOptions) (*RoundingMeter, error) {
	m := &RoundingMeter{cfg: cfg, o: o, inputs: make([]map[model.Point]*fidelitySums, cfg.Layers), caches: make([]cacheSums, cfg.Layers)}
	for layer := range m.inputs {
		m.inputs[layer] = map[model.Point]*fidelitySums{}
		for _, rule := range cfg.Linears(layer) {
			m.inputs[layer][rule.Input().Base()] = &fidelitySums{}
		}
	}
	o.Scheme.FP8Queries = false // keys and values alone are looked at
	var err error
	if m.cache, err = NewCache(o.Scheme, o.Sidecar, cfg); err != nil || o.Scheme.Format != packer.KVInt4 {
		return m, err // the scale of an FP8 cache is that of the scaled keys
	}
	if s := unscaled(o.Sidecar, o.KeyFactors, cfg.Layers); s != nil {
		m.plain, err = NewCache(o.Scheme, s, cfg)
	}
	return m, err
}

// unscaled is the sidecar of keys as they would be without scales; nil: they have none.
func unscaled(s *packer.Sidecar, factors [][]float64, layers int) *packer.Sidecar {
	if s == nil {
		s = &packer.Sidecar{}
	}
	of := func(list [][]float32, layer int) []float32 {
		if layer < len(list) {
			return list[layer]
		}
		return nil
	}
	out, has := &packer.Sidecar{ValueMeans: s.ValueMeans}, false
	for layer := range layers {
		scales, means := of(s.KeyScales, layer), of(s.KeyMeans, layer)
		has = has || scales != nil || factors != nil && factors[layer] != nil
		if means == nil {
			continue
		}
		if out.KeyMeans == nil {
			out.KeyMeans = make([][]float32, layers)
		}
		mean := make([]float32, len(means))
		for c, m := range means {
			mean[c] = m
			if scales != nil {
				mean[c] /= scales[c]
			}
			if factors != nil && factors[layer] != nil {
				mean[c] = float32(float64(mean[c]) / factors[layer][c])
			}
		}
		out.KeyMeans[layer] = mean
	}
	if !has {
		return nil
	}
	return out
}

// Observe is a model.Observer: it rounds the inputs of linears.
func (m *RoundingMeter) Observe(site model.Site, x tensor.Matrix) {
	if site.Layer == 0 && site.Point == model.AttnIn {
		m.tokens += int64(x.Rows)
	}
	sums := m.inputs[site.Layer][site.Point.Base()]
	if m.o.Inputs == nil || sums == nil {
		return
	}
	m.rounded = fitted(m.rounded, x.Rows, x.Cols)
	m.o.Inputs(m.rounded, x)
	for i := range x.Rows {
		sums.add(x.Row(i), m.rounded.Row(i))
	}
}

// Cache is a model.Runtime.Cache that leaves everything as it is and measures what the
// scheme would make of it.
func (m *RoundingMeter) Cache(layer int, q, k, v tensor.Matrix) {
	if m.cache == nil {
		return
	}
	sums := &m.caches[layer]
	m.copyOf(0, k, v)
	m.cache(layer, q, m.k[0], m.v[0])
	for i := range v.Rows {
		sums.values.add(v.Row(i), m.v[0].Row(i))
	}
	keys := []tensor.Matrix{m.k[0]}
	into := []*fidelitySums{&sums.scores}
	if m.plain != nil {
		m.copyOf(1, k, v)
		factors := m.factors(layer)
		scaleColumns(m.k[1], factors, func(x, f float64) float64 { return x / f })
		m.plain(layer, q, m.k[1], m.v[1])
		scaleColumns(m.k[1], factors, func(x, f float64) float64 { return x * f })
		keys, into = append(keys, m.k[1]), append(into, &sums.unscaled)
	}
	m.scores(layer, q, k, keys, into)
}

func (m *RoundingMeter) factors(layer int) []float64 {
	if m.o.KeyFactors == nil {
		return nil
	}
	return m.o.KeyFactors[layer]
}

func scaleColumns(x tensor.Matrix, factors []float64, scale func(x, f float64) float64) {
	for i := range x.Rows {
		row := x.Row(i)
		for c, f := range factors {
			row[c] = float32(scale(float64(row[c]), f))
		}
	}
}

// scores forms the scores of some queries with keys as they are and as they were rounded.
func (m *RoundingMeter) scores(layer int, q, k tensor.Matrix, rounded []tensor.Matrix, into []*fidelitySums) {
	dim, group := m.cfg.HeadDim, m.cfg.Heads/m.cfg.KVHeads
	exact, other := make([]float32, q.Rows), make([]float32, q.Rows)
	for sample := range min(measuredQueries, q.Rows) {
		i := q.Rows - 1 - sample*q.Rows/measuredQueries
		from := 0
		if w := m.cfg.Window(layer); w > 0 {
			from = max(0, i-w+1)
		}
		for h := range m.cfg.Heads {
			query, at := q.Row(i)[h*dim:][:dim], h/group*dim
			multiply(exact[from:i+1], query, k, from, at)
			for j, keys := range rounded {
				multiply(other[from:i+1], query, keys, from, at)
				into[j].add(exact[from:i+1], other[from:i+1])
			}
		}
	}
}

// multiply writes q·k of keys from one on, less their mean.
func multiply(dst, q []float32, k tensor.Matrix, from, at int) {
	var mean float64
	for j := range dst {
		var sum float64
		for c, x := range k.Row(from + j)[at:][:len(q)] {
			sum += float64(float64(q[c]) * float64(x))
		}
		dst[j] = float32(sum)
		mean += sum
	}
	mean /= float64(len(dst))
	for j := range dst {
		dst[j] = float32(float64(dst[j]) - mean)
	}
}

// Measured gives what was lost.
func (m *RoundingMeter) Measured() *packer.Rounding {
	r := &packer.Rounding{Tokens: m.tokens}
	for layer := range m.cfg.Layers {
		for _, p := range []model.Point{model.AttnIn, model.OIn, model.MLPIn, model.ExpertIn, model.DownIn} {
			if sums := m.inputs[layer][p]; m.o.Inputs != nil && sums != nil {
				r.Inputs = append(r.Inputs, packer.InputRounding{Layer: layer, Point: string(p), Fidelity: sums.fidelity()})
			}
		}
		if m.cache == nil {
			continue
		}
		s := &m.caches[layer]
		c := packer.CacheRounding{Layer: layer, Scores: s.scores.fidelity(), Values: s.values.fidelity()}
		if m.plain != nil {
			f := s.unscaled.fidelity()
			c.UnscaledScores = &f
		}
		r.Cache = append(r.Cache, c)
	}
	return r
}

func (m *RoundingMeter) copyOf(i int, k, v tensor.Matrix) {
	m.k[i], m.v[i] = fitted(m.k[i], k.Rows, k.Cols), fitted(m.v[i], v.Rows, v.Cols)
	for row := range k.Rows {
		copy(m.k[i].Row(row), k.Row(row))
		copy(m.v[i].Row(row), v.Row(row))
	}
}

// fitted is a matrix in the memory of another, where that is enough.
func fitted(x tensor.Matrix, rows, cols int) tensor.Matrix {
	if cap(x.Data) < rows*cols {
		return tensor.NewMatrix(rows, cols)
	}
	return tensor.MatrixOf(rows, cols, x.Data[:rows*cols])
}

// fidelitySums are those of packer.NewFidelity, in float64.
type fidelitySums struct{ signal, rounded, noise, both float64 }

func (s *fidelitySums) add(want, got []float32) {
	for i, w := range want {
		w, g := float64(w), float64(got[i])
		s.signal += float64(w * w)
		s.rounded += float64(g * g)
		s.noise += float64((w - g) * (w - g))
		s.both += float64(w * g)
	}
}

func (s *fidelitySums) fidelity() packer.Fidelity {
	return packer.NewFidelity(s.signal, s.rounded, s.noise, s.both)
}
