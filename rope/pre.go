package rope

import (
	"math"

	"quantize/model"
)

// Pre multiplies keys before rotary embedding and divides queries by the same,
// which leaves every score alone: rows and biases of k and q, or the weights of
// k_norm and q_norm where the architecture has them.
type Pre struct {
	model.BlocksOnly

	// ByLayer holds the factors of the keys of each layer (KVHeads*HeadDim), from
	// [PreScales] or [SmoothAttentionScales], not both: the second would have to be
	// measured on keys that the first has scaled. nil leaves a layer as it is.
	ByLayer [][]float64

	layout Layout
	arch   *model.Arch
}

var _ model.Transform = (*Pre)(nil)

// NewPre makes the transform of a model, which does nothing yet.
func NewPre(c *model.Config) *Pre {
	return &Pre{ByLayer: make([][]float64, c.Layers), layout: LayoutOf(c), arch: c.Arch}
}

// Block scales one layer. Factors that are not positive, differ within a rotary
// pair or, under QK-norm, between heads are a bug of the caller and panic.
func (p *Pre) Block(layer int, params model.Params) {
	s := p.ByLayer[layer]
	if s == nil {
		return
	}
	p.layout.demandFoldable(s)
	if p.layout.Shared {
		k, q := params.Weight(p.arch.KNorm).Data, params.Weight(p.arch.QNorm).Data
		for c := range k {
			k[c] *= s[c]
			q[c] /= s[c]
		}
		return
	}
	for _, l := range p.arch.Linears {
		switch l.Role {
		case model.RoleK:
			scaleRows(params, l.Name, func(row int) float64 { return s[row] })
		case model.RoleQ:
			scaleRows(params, l.Name, func(row int) float64 { return 1 / s[p.layout.kv(row)] })
		default:
		}
	}
}

// scaleRows multiplies rows of a linear's weight and the elements of its bias.
func scaleRows(params model.Params, module string, factor func(row int) float64) {
	weight, bias := params.Weight(module), params.Bias(module)
	for row := range weight.Rows {
		f := factor(row)
		for j := range weight.Row(row) {
			weight.Row(row)[j] *= f
		}
		if bias != nil {
			bias[row] *= f
		}
	}
}

func (l Layout) demandFoldable(s []float64) {
	if len(s) != l.KVHeads*l.HeadDim {
		panic("rope: factors of another number of channels")
	}
	for c, f := range s {
		switch partner := l.Pairing.Partner(c%l.HeadDim, l.Rotary); {
		case !(f > 0 && f <= math.MaxFloat64):
			panic("rope: a factor that is not positive and finite")
		case partner >= 0 && s[c-c%l.HeadDim+partner] != f:
			panic("rope: factors differ within a rotary pair")
		case l.Shared && s[c%l.HeadDim] != f:
			panic("rope: factors differ between heads that share a norm")
		}
	}
}
