package report

import (
	"math"

	"quantize/packer"
)

// Attention is how keys, values and the inputs of down are treated at run time.
type Attention struct {
	Scheme        string // of the cache
	Down          string // rotation of the input of down; "": none
	Sidecar       bool   // the checkpoint has one
	Heads         int
	KVHeads       int
	HeadDim       int
	Bits          int   // of a cached number, scales left out
	BytesPerToken int64 // of the cache, all layers, scales left out

	Plan      string  // of attention itself; "": none
	MinCosine float64 // the budget that it was chosen within; 0: it was not chosen

	Layers []AttentionLayer
}

// AttentionLayer gives the numbers of one layer; NaN where it has none.
type AttentionLayer struct {
	Block                int
	KeyScale             [2]float64 // least and largest post-RoPE scale
	KeyMean, ValueMean   float64    // largest magnitude
	KeyStatic, ValStatic float64    // scales of an FP8 cache

	Mode                string  // of its attention; "": no plan
	Cosine, WorstCosine float64 // to exact attention, of the whole output and of the worst head
	RelativeL1          float64
}

// bits is the size of a cached number; 16 where the runtime keeps its own.
func bits(f packer.KVFormat) int {
	switch f {
	case packer.KVFP8:
		return 8
	case packer.KVInt4:
		return 4
	default:
		return 16
	}
}

func (b *builder) attention() {
	c, s := b.config, b.sidecar
	a := &b.report.Attention
	a.Scheme, a.Bits = "the runtime's own, 16 bits", 16
	a.Heads, a.KVHeads, a.HeadDim = c.Heads, c.KVHeads, c.HeadDim
	if s != nil {
		a.Sidecar, a.Down, a.Bits = true, s.Down, bits(s.KV.Format)
		if s.KV.Format != packer.KVNone {
			a.Scheme = s.KV.String()
		}
		for layer := range c.Layers {
			a.Layers = append(a.Layers, attentionLayer(s, layer))
		}
		if s.Plan != nil {
			a.Plan, a.MinCosine = s.Plan.String(), s.Plan.MinCosine
		} else if !anyNumber(a.Layers) {
			a.Layers = nil
		}
	}
	a.BytesPerToken = int64(2*c.Layers*c.KVHeads*c.HeadDim) * int64(a.Bits) / 8
}

func attentionLayer(s *packer.Sidecar, layer int) AttentionLayer {
	nan := math.NaN()
	l := AttentionLayer{
		Block: layer, KeyScale: [2]float64{nan, nan}, KeyMean: nan, ValueMean: nan, KeyStatic: nan, ValStatic: nan,
		Cosine: nan, WorstCosine: nan, RelativeL1: nan,
	}
	for i, v := range layerOf(s, layer, func(s *packer.Sidecar) [][]float32 { return s.KeyScales }) {
		if i == 0 {
			l.KeyScale = [2]float64{float64(v), float64(v)}
		}
		l.KeyScale[0], l.KeyScale[1] = min(l.KeyScale[0], float64(v)), max(l.KeyScale[1], float64(v))
	}
	l.KeyMean = largest(layerOf(s, layer, func(s *packer.Sidecar) [][]float32 { return s.KeyMeans }))
	l.ValueMean = largest(layerOf(s, layer, func(s *packer.Sidecar) [][]float32 { return s.ValueMeans }))
	if layer < len(s.KScales) && layer < len(s.VScales) {
		l.KeyStatic, l.ValStatic = float64(s.KScales[layer]), float64(s.VScales[layer])
	}
	if s.Plan != nil && layer < len(s.Plan.Layers) {
		p := s.Plan.Layers[layer]
		if l.Mode = p.Mode.String(); p.AttentionError != (packer.AttentionError{}) {
			l.Cosine, l.WorstCosine, l.RelativeL1 = p.Cosine, p.WorstCosine, p.RelativeL1
		}
	}
	return l
}

func anyNumber(layers []AttentionLayer) bool {
	for _, l := range layers {
		for _, v := range []float64{l.KeyScale[0], l.KeyMean, l.ValueMean, l.KeyStatic} {
			if !math.IsNaN(v) {
				return true
			}
		}
	}
	return false
}

// largest is max |x|, NaN of none.
func largest(x []float32) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	top := 0.0
	for _, v := range x {
		top = max(top, math.Abs(float64(v)))
	}
	return top
}

// layerOf takes what a list of the sidecar has for a layer, nil where that is nothing.
func layerOf(s *packer.Sidecar, layer int, list func(*packer.Sidecar) [][]float32) []float32 {
	if s == nil {
		return nil
	}
	if all := list(s); layer < len(all) {
		return all[layer]
	}
	return nil
}
