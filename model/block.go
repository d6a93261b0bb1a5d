package model

import (
	"math"

	"quantize/tensor"
)

// Block is one loaded decoder block. It reuses its buffers from call to call,
// so one Block serves one goroutine.
type Block struct {
	Layer int

	model             *Model
	attnNorm, mlpNorm []float32
	qNorm, kNorm      []float32            // nil without QK-norm
	linears           [RoleDown + 1]Linear // of a block with experts: those of attention
	router            Linear               // nil without experts
	experts           []expert
	buffers           *buffers
}

// Forward runs one window x (M, Hidden) through the block in place; row m is
// the token at position m. observe may be nil.
func (b *Block) Forward(x tensor.Matrix, observe Observer) {
	if x.Rows == 0 {
		return
	}
	b.FinishAttention(x, observe)
	b.FinishMLP(x, observe)
}

func (b *Block) attention(x tensor.Matrix, observe Observer) {
	s := b.buffers
	b.attend(x, observe)
	observe(Site{b.Layer, OIn}, s.attended)
	b.linears[RoleO].Forward(s.in, s.attended)
	add(x, s.in)
}

// attend leaves the input of o in buffers.attended.
func (b *Block) attend(x tensor.Matrix, observe Observer) {
	c, s, between := b.model.Config, b.buffers, b.model.between
	eps := float32(c.NormEps)
	at := func(p Point, t tensor.Matrix) { observe(Site{b.Layer, p}, t) }

	between.RMSNorm(s.in, x, b.attnNorm, eps)
	at(AttnIn, s.in)
	b.linears[RoleQ].Forward(s.q, s.in)
	b.linears[RoleK].Forward(s.k, s.in)
	b.linears[RoleV].Forward(s.v, s.in)
	if b.qNorm != nil {
		q, k := heads(s.q, c.HeadDim), heads(s.k, c.HeadDim)
		between.RMSNorm(q, q, b.qNorm, eps)
		between.RMSNorm(k, k, b.kNorm, eps)
	}
	at(QPre, s.q)
	at(KPre, s.k)
	b.model.rotary.apply(s.q)
	b.model.rotary.apply(s.k)
	at(QPost, s.q)
	at(KPost, s.k)
	at(V, s.v)
	if cache := b.model.runtime.Cache; cache != nil {
		cache(b.Layer, s.q, s.k, s.v)
	}
	a := Attention{
		Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim,
		Scale:  float32(1 / math.Sqrt(float64(c.HeadDim))),
		Window: c.Window(b.Layer),
	}
	if attend := b.model.runtime.Attend; attend != nil {
		attend(b.Layer, s.attended, s.q, s.k, s.v, a)
		return
	}
	b.model.compute.Attend(s.attended, s.q, s.k, s.v, a)
}

func (b *Block) mlp(x tensor.Matrix, observe Observer) {
	s := b.buffers
	if b.router != nil {
		b.mixture(x, observe)
		return
	}
	b.gateUp(x, observe)
	observe(Site{b.Layer, DownIn}, s.gate)
	b.linears[RoleDown].Forward(s.in, s.gate)
	add(x, s.in)
}

// gateUp leaves the input of down in buffers.gate.
func (b *Block) gateUp(x tensor.Matrix, observe Observer) {
	s, between := b.buffers, b.model.between
	between.RMSNorm(s.in, x, b.mlpNorm, float32(b.model.Config.NormEps))
	observe(Site{b.Layer, MLPIn}, s.in)
	b.linears[RoleGate].Forward(s.gate, s.in)
	b.linears[RoleUp].Forward(s.up, s.in)
	between.SiLUMul(s.gate, s.gate, s.up)
	if rotate := b.model.runtime.DownIn; rotate != nil {
		rotate(s.gate)
	}
}

// heads views a contiguous (M, heads*dim) matrix as (M*heads, dim).
func heads(x tensor.Matrix, dim int) tensor.Matrix {
	return tensor.MatrixOf(x.Rows*x.Cols/dim, dim, x.Data)
}

// buffers are the activations of one block for one window.
type buffers struct {
	in       tensor.Matrix // (M, Hidden): input of a linear, then the output that joins the residual
	q        tensor.Matrix // (M, Heads*HeadDim)
	k, v     tensor.Matrix // (M, KVHeads*HeadDim)
	attended tensor.Matrix // (M, Heads*HeadDim)
	gate, up tensor.Matrix // (M, Intermediate), or of one expert

	mixture // of a block with experts
}

// fit gives every buffer rows rows, allocating only for a longer window than before.
func (s *buffers) fit(c *Config, rows int) {
	resize(&s.in, rows, c.Hidden)
	resize(&s.q, rows, c.Heads*c.HeadDim)
	resize(&s.k, rows, c.KVHeads*c.HeadDim)
	resize(&s.v, rows, c.KVHeads*c.HeadDim)
	resize(&s.attended, rows, c.Heads*c.HeadDim)
	resize(&s.gate, rows, c.Intermediate)
	resize(&s.up, rows, c.Intermediate)
}

func resize(m *tensor.Matrix, rows, cols int) {
	if n := rows * cols; n <= cap(m.Data) {
		*m = tensor.MatrixOf(rows, cols, m.Data[:n])
	} else {
		*m = tensor.NewMatrix(rows, cols)
	}
}
