package model

import (
	"fmt"

	"quantize/tensor"
)

// Param is one tensor in float64, row-major (Rows, Cols); a vector has one row.
type Param struct {
	Rows, Cols int
	Data       []float64
}

// Row returns row i.
func (p *Param) Row(i int) []float64 { return p.Data[i*p.Cols : (i+1)*p.Cols] }

// Params holds the tensors of one decoder block, by their names without the
// block's prefix ("self_attn.q_proj.weight"): what a [Transform] changes.
type Params map[string]*Param

// Weight returns the weight of a module of the block: (N, K) of a linear, one
// row of a norm. A missing one is a bug of the caller and panics.
func (p Params) Weight(module string) *Param {
	w := p[module+".weight"]
	if w == nil {
		panic(fmt.Sprintf("model: block has no %s.weight", module))
	}
	return w
}

// Bias returns the bias of a module of the block, nil when it has none.
func (p Params) Bias(module string) []float64 {
	if b := p[module+".bias"]; b != nil {
		return b.Data
	}
	return nil
}

// Transform rewrites the weights of a model and leaves its function alone
// (architecture.md, law 1). Values are float64: a transform does not round.
// Implementations are plans: calling one twice on equal tensors gives equal
// results, in any order of layers.
type Transform interface {
	// Block changes the tensors of decoder block layer in place.
	Block(layer int, p Params)
	// Embedding changes rows (n, Hidden) of the embedding in place.
	Embedding(rows *Param)
	// Head changes rows (n, Hidden) of the output projection in place. finalNorm
	// is the weight of the norm before it, as it is before FinalNorm changes it.
	Head(rows *Param, finalNorm []float64)
	// FinalNorm changes the weight (Hidden) of the norm before the head in place.
	FinalNorm(norm []float64)
	// Unties reports that embedding and head become different matrices.
	Unties() bool
}

// BlocksOnly is embedded by a [Transform] that touches nothing outside the blocks.
type BlocksOnly struct{}

// Embedding changes nothing.
func (BlocksOnly) Embedding(*Param) {}

// Head changes nothing.
func (BlocksOnly) Head(*Param, []float64) {}

// FinalNorm changes nothing.
func (BlocksOnly) FinalNorm([]float64) {}

// Unties is false.
func (BlocksOnly) Unties() bool { return false }

// widen copies an FP32 matrix.
func widen(m tensor.Matrix) *Param {
	p := &Param{Rows: m.Rows, Cols: m.Cols, Data: make([]float64, m.Rows*m.Cols)}
	for i := range m.Rows {
		row := p.Row(i)
		for j, v := range m.Row(i) {
			row[j] = float64(v)
		}
	}
	return p
}

// Narrow rounds p to FP32 once.
func (p *Param) Narrow() tensor.Matrix {
	m := tensor.NewMatrix(p.Rows, p.Cols)
	for i, v := range p.Data {
		m.Data[i] = float32(v)
	}
	return m
}
