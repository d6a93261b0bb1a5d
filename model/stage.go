package model

import (
	"fmt"
	"slices"

	"quantize/tensor"
)

// The stages of a block, for a caller that replaces its linears one site after
// the other and wants to see what each is fed (GPTQ's sequential order). For a
// window x, the residual stream at the block's input:
//
//	Until(AttnIn, x)    Until(OIn, x)     FinishAttention(x)    x is now the stream after attention
//	Until(MLPIn, x)     Until(DownIn, x)  FinishMLP(x)          x is now the block's output
//
// and between FinishAttention and FinishMLP of a block with experts, for each expert
//
//	r = Route(x)   UntilExpert(ExpertIn.Of(e), x, r)   UntilExpert(DownIn.Of(e), x, r)
//
// Forward is the two Finish calls.

// SetLinear replaces the linear of a rule; its shape must be the config's.
func (b *Block) SetLinear(rule LinearRule, l Linear) {
	n, k := b.model.Config.Shape(rule.Role)
	if gotN, gotK := l.Shape(); gotN != n || gotK != k {
		panic(fmt.Sprintf("model: linear (%d, %d) in the place of (%d, %d)", gotN, gotK, n, k))
	}
	*b.place(rule) = l
}

// Share returns a block with the linears of b and buffers of its own, on the
// runtime of m, which must have the same config.
func (m *Model) Share(b *Block) *Block {
	c := *b
	c.model, c.buffers, c.experts = m, nil, slices.Clone(b.experts)
	return &c
}

// Until computes the input of the linears that share point p from x, which it
// leaves alone. The result is valid until the next call.
func (b *Block) Until(p Point, x tensor.Matrix) tensor.Matrix {
	b.fit(x.Rows)
	s, eps := b.buffers, float32(b.model.Config.NormEps)
	switch p {
	case AttnIn:
		b.model.between.RMSNorm(s.in, x, b.attnNorm, eps)
		return s.in
	case OIn:
		b.attend(x, unobserved)
		return s.attended
	case MLPIn:
		b.model.between.RMSNorm(s.in, x, b.mlpNorm, eps)
		return s.in
	case DownIn:
		b.gateUp(x, unobserved)
		return s.gate
	default:
		panic(fmt.Sprintf("model: no linear reads %q", p))
	}
}

// FinishAttention adds the attention's output to x.
func (b *Block) FinishAttention(x tensor.Matrix, observe Observer) {
	b.fit(x.Rows)
	b.attention(x, observed(observe))
}

// FinishMLP adds the MLP's output to x.
func (b *Block) FinishMLP(x tensor.Matrix, observe Observer) {
	b.fit(x.Rows)
	b.mlp(x, observed(observe))
}

func unobserved(Site, tensor.Matrix) {}

func observed(o Observer) Observer {
	if o == nil {
		return unobserved
	}
	return o
}

func (b *Block) fit(rows int) {
	if b.buffers == nil {
		b.buffers = &buffers{}
	}
	b.buffers.fit(b.model.Config, rows)
}
