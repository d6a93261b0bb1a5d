package model

import "quantize/tensor"

// sliceRows is the number of vocabulary rows handled at a time: a slice of a
// model of hidden size 8192 has 256 MB in FP32, of 896 it has 29 MB.
const sliceRows = 8192

// Head is the loaded output projection, the embedding matrix when tied, cut
// into slices of vocabulary rows: while it loads, one slice is held twice (as
// read, and as the compute stores it) and not the whole.
type Head struct {
	vocab, hidden int
	slices        []Linear
}

// Head loads the output projection.
func (m *Model) Head() (*Head, error) {
	c := m.Config
	name := c.Arch.Head + ".weight"
	if c.TieEmbeddings {
		name = c.Arch.Embedding + ".weight"
	}
	h := &Head{vocab: c.Vocab, hidden: c.Hidden}
	err := eachRows(m.source, name, c.Vocab, sliceRows, func(_ int, rows tensor.Matrix) error {
		if rows.Cols != c.Hidden {
			return shapeFault(name, []int{c.Vocab, rows.Cols}, []int{c.Vocab, c.Hidden})
		}
		h.slices = append(h.slices, m.compute.Linear(rows, nil))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Logits writes the logits of x (M, Hidden), hidden states after the final
// norm, into dst (M, Vocab). It is safe for concurrent use.
func (h *Head) Logits(dst, x tensor.Matrix) {
	if x.Cols != h.hidden || dst.Cols != h.vocab || dst.Rows != x.Rows {
		panic("model: head shapes disagree")
	}
	from := 0
	for _, l := range h.slices {
		n, _ := l.Shape()
		l.Forward(dst.ColRange(from, from+n), x)
		from += n
	}
}
