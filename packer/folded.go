package packer

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/tensor"
)

// foldedSlice is the number of elements of an embedding transformed at a time:
// 32 MB in float64.
const foldedSlice = 4 << 20

// foldedTensors are the transformed tensors of the blocks, in layer order.
type foldedTensors struct {
	left   []model.Expected
	layers func(module string) int
}

func (e *exporter) foldedByLayer() *foldedTensors {
	f := &foldedTensors{layers: e.options.Model.LayerOf}
	for layer := range e.options.Model.Layers {
		for _, t := range e.plan.folded {
			if t.Layer == layer {
				f.left = append(f.left, t)
			}
		}
	}
	return f
}

// before takes the tensors of the blocks up to that of a linear.
func (f *foldedTensors) before(linear string) []model.Expected {
	n := 0
	for n < len(f.left) && f.left[n].Layer <= f.layers(linear) {
		n++
	}
	out := f.left[:n]
	f.left = f.left[n:]
	return out
}

func (f *foldedTensors) rest() []model.Expected { return f.left }

// encodeFolded gives a transformed tensor in its stored dtype.
func (e *exporter) encodeFolded(t model.Expected) (stored, error) {
	m, err := e.options.Folded.Matrix(t.Name)
	if err != nil {
		return stored{}, err
	}
	s := stored{t.Name, make([]byte, t.Bytes())}
	if err := tensor.Encode(s.data, m.Data, t.DType); err != nil {
		return s, err
	}
	return s, checkpoint.CheckFinite(t.Info, s.data, 0)
}

// writeEnds writes the transformed embedding, final norm and head, a slice of
// rows at a time.
func (e *exporter) writeEnds() error {
	for _, t := range e.plan.folded {
		if t.Layer >= 0 {
			continue
		}
		if t.Kind == model.KindNorm {
			s, err := e.encodeFolded(t)
			if err == nil {
				err = e.writer.Add(s.name, s.data)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := e.writer.AddFrom(t.Name, &foldedRows{source: e.options.Folded, tensor: t, journal: e.options.Journal}); err != nil {
			return err
		}
	}
	return nil
}

// foldedRows reads the encoded rows of a transformed embedding or head.
type foldedRows struct {
	source  *model.Folded
	tensor  model.Expected
	journal *checkpoint.Journal
	at      int // the next row
	data    bytes.Reader
}

func (f *foldedRows) Read(p []byte) (int, error) {
	if f.data.Len() == 0 {
		rows, cols := f.tensor.Shape[0], f.tensor.Shape[1]
		if f.at == rows {
			return 0, io.EOF
		}
		to := min(rows, f.at+max(1, foldedSlice/cols))
		data, err := f.slice(to)
		if err != nil {
			return 0, err
		}
		f.data.Reset(data)
		f.at = to
	}
	return f.data.Read(p)
}

// slice gives the rows up to one, from the journal where an earlier run has made
// them: a dense rotation of a large vocabulary takes as long as many blocks.
func (f *foldedRows) slice(to int) ([]byte, error) {
	key := fmt.Sprintf("%s.%06d", f.tensor.Name, f.at)
	if p := f.journal.Load(key); p != nil {
		data, err := p.Bytes(rowsSection)
		return data, errors.Join(err, p.Close())
	}
	m, err := f.source.Rows(f.tensor.Name, f.at, to)
	if err != nil {
		return nil, err
	}
	row := f.tensor.Bytes() / int64(f.tensor.Shape[0])
	data := make([]byte, row*int64(to-f.at))
	if err := tensor.Encode(data, m.Data, f.tensor.DType); err != nil {
		return nil, err
	}
	if err := checkpoint.CheckFinite(f.tensor.Info, data, row*int64(f.at)); err != nil {
		return nil, err
	}
	return data, f.journal.Store(key, checkpoint.SectionOf(rowsSection, data))
}

const rowsSection = "rows"
