package packer

import (
	"bytes"
	"io"

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

// writeFolded writes transformed tensors of blocks in their stored dtype.
func (e *exporter) writeFolded(list []model.Expected) error {
	for _, t := range list {
		m, err := e.options.Folded.Matrix(t.Name)
		if err != nil {
			return err
		}
		data := make([]byte, t.Bytes())
		if err := tensor.Encode(data, m.Data, t.DType); err != nil {
			return err
		}
		if err := e.writer.Add(t.Name, data); err != nil {
			return err
		}
	}
	return nil
}

// writeEnds writes the transformed embedding, final norm and head, a slice of
// rows at a time.
func (e *exporter) writeEnds() error {
	for _, t := range e.plan.folded {
		if t.Layer >= 0 {
			continue
		}
		if t.Kind == model.KindNorm {
			if err := e.writeFolded([]model.Expected{t}); err != nil {
				return err
			}
			continue
		}
		if err := e.writer.AddFrom(t.Name, &foldedRows{source: e.options.Folded, tensor: t}); err != nil {
			return err
		}
	}
	return nil
}

// foldedRows reads the encoded rows of a transformed embedding or head.
type foldedRows struct {
	source *model.Folded
	tensor model.Expected
	at     int // the next row
	data   bytes.Reader
}

func (f *foldedRows) Read(p []byte) (int, error) {
	if f.data.Len() == 0 {
		rows, cols := f.tensor.Shape[0], f.tensor.Shape[1]
		if f.at == rows {
			return 0, io.EOF
		}
		to := min(rows, f.at+max(1, foldedSlice/cols))
		m, err := f.source.Rows(f.tensor.Name, f.at, to)
		if err != nil {
			return 0, err
		}
		data := make([]byte, f.tensor.Bytes()/int64(rows)*int64(to-f.at))
		if err := tensor.Encode(data, m.Data, f.tensor.DType); err != nil {
			return 0, err
		}
		f.data.Reset(data)
		f.at = to
	}
	return f.data.Read(p)
}
