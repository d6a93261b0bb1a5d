package model

import (
	"strings"

	"quantize/tensor"
)

// Folded is a [Source] of full-precision weights with transforms applied, in
// their order, in float64; each tensor is rounded to FP32 once. One block is in
// memory at a time, 8 bytes an element: tensors of blocks are for one goroutine,
// and asking for layers in order loads each once. Rows and the final norm may be
// read beside that.
type Folded struct {
	config     *Config
	source     Source
	compute    Compute
	transforms []Transform

	expected map[string]Expected // by name: a model of experts has tens of thousands

	layer     int // of block
	block     Params
	tied      bool        // in the source
	finalNorm [][]float64 // before transform i; the last one after all
}

var _ RowReader = (*Folded)(nil)

// Fold prepares the weights of src, described by cfg. Its linears are made by c.
func Fold(cfg *Config, src Source, c Compute, transforms ...Transform) (*Folded, error) {
	f := &Folded{source: src, compute: c, transforms: transforms, expected: map[string]Expected{}, layer: -1, tied: cfg.TieEmbeddings}
	out := *cfg
	norm, err := src.Matrix(cfg.Arch.FinalNorm + ".weight")
	if err != nil {
		return nil, err
	}
	state := widen(norm).Data
	for _, t := range transforms {
		if t.Unties() {
			out.TieEmbeddings = false
		}
		f.finalNorm = append(f.finalNorm, state)
		next := append([]float64(nil), state...)
		t.FinalNorm(next)
		state = next
	}
	f.finalNorm = append(f.finalNorm, state)
	f.config = &out
	for _, e := range Tensors(f.config) {
		f.expected[e.Name] = e
	}
	return f, nil
}

// Config describes the transformed model.
func (f *Folded) Config() *Config { return f.config }

// Block returns the transformed tensors of a block. They are f's own: the caller
// reads them, and does not keep them beyond the next block.
func (f *Folded) Block(layer int) (Params, error) {
	if f.layer == layer {
		return f.block, nil
	}
	f.layer, f.block = -1, nil
	p := Params{}
	prefix := f.config.prefix(layer)
	for _, e := range Tensors(f.config) {
		if e.Layer != layer {
			continue
		}
		m, err := f.source.Matrix(e.Name)
		if err != nil {
			return nil, err
		}
		p[strings.TrimPrefix(e.Name, prefix)] = widen(m)
	}
	for _, t := range f.transforms {
		t.Block(layer, p)
	}
	f.layer, f.block = layer, p
	return p, nil
}

// Linear makes the linear of a block from its transformed weight.
func (f *Folded) Linear(name string) (Linear, error) {
	w, err := f.Matrix(name + ".weight")
	if err != nil {
		return nil, err
	}
	var bias []float32
	if f.block[f.inBlock(name)+".bias"] != nil {
		b, err := f.Matrix(name + ".bias")
		if err != nil {
			return nil, err
		}
		bias = b.Data
	}
	return f.compute.Linear(w, bias), nil
}

// Matrix returns a transformed tensor, rounded to FP32.
func (f *Folded) Matrix(name string) (tensor.Matrix, error) {
	e, ok := f.expected[name]
	switch {
	case !ok:
		return f.source.Matrix(name)
	case e.Layer >= 0:
		p, err := f.Block(e.Layer)
		if err != nil {
			return tensor.Matrix{}, err
		}
		return p[f.inBlock(name)].Narrow(), nil
	case e.Kind == KindNorm:
		norm := &Param{Rows: 1, Cols: f.config.Hidden, Data: f.finalNorm[len(f.transforms)]}
		return norm.Narrow(), nil
	default:
		return f.Rows(name, 0, f.config.Vocab)
	}
}

// Rows returns transformed rows [from, to) of the embedding or the head.
func (f *Folded) Rows(name string, from, to int) (tensor.Matrix, error) {
	head := name == f.config.Arch.Head+".weight"
	stored := name
	if head && f.tied {
		stored = f.config.Arch.Embedding + ".weight"
	}
	rows, err := rowsOf(f.source, stored, from, to)
	if err != nil {
		return tensor.Matrix{}, err
	}
	p := widen(rows)
	for i, t := range f.transforms {
		if head {
			t.Head(p, f.finalNorm[i])
		} else {
			t.Embedding(p)
		}
	}
	return p.Narrow(), nil
}

// inBlock takes the prefix of the loaded block off a name.
func (f *Folded) inBlock(name string) string {
	return strings.TrimPrefix(name, f.config.prefix(f.layer))
}

// rowsOf reads rows of a matrix from a source that may have no rows to read.
func rowsOf(src Source, name string, from, to int) (tensor.Matrix, error) {
	if r, ok := src.(RowReader); ok {
		return r.Rows(name, from, to)
	}
	whole, err := src.Matrix(name)
	if err != nil {
		return tensor.Matrix{}, err
	}
	return whole.RowRange(from, to), nil
}
