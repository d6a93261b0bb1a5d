package captured

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"quantize/tensor"
)

// Header is the first line of a file, JSON. After it come, layer by layer, the queries
// (Tokens, Heads·HeadDim), keys and values (Tokens, KVHeads·HeadDim) as little-endian BF16.
type Header struct {
	Layers  int `json:"layers"`
	Tokens  int `json:"tokens"` // of one sequence; attention is causal, with scale 1/sqrt(HeadDim)
	Heads   int `json:"heads"`
	KVHeads int `json:"kv_heads"`
	HeadDim int `json:"head_dim"`
}

// Layer is what one layer attends with, rotary embedding applied.
type Layer struct{ Q, K, V tensor.Matrix }

// matrices are those of a layer, in the order of the file.
func (l *Layer) matrices() []*tensor.Matrix { return []*tensor.Matrix{&l.Q, &l.K, &l.V} }

// Write writes a file; numbers are rounded to BF16.
func Write(w io.Writer, h Header, layers []Layer) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	for _, l := range layers {
		for _, m := range l.matrices() {
			raw := make([]byte, 0, 2*m.Rows*m.Cols)
			for i := range m.Rows {
				for _, x := range m.Row(i) {
					raw = binary.LittleEndian.AppendUint16(raw, tensor.BF16Bits(x))
				}
			}
			if _, err := w.Write(raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// Read reads what Write wrote.
func Read(r io.Reader) (h Header, layers []Layer, err error) {
	b := bufio.NewReader(r)
	line, err := b.ReadBytes('\n')
	if err != nil {
		return h, nil, fmt.Errorf("captured operands: header: %w", err)
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, nil, fmt.Errorf("captured operands: header: %w", err)
	}
	layers = make([]Layer, h.Layers)
	for n := range layers {
		for i, m := range layers[n].matrices() {
			heads := h.KVHeads
			if i == 0 {
				heads = h.Heads
			}
			*m = tensor.NewMatrix(h.Tokens, heads*h.HeadDim)
			raw := make([]byte, 2*len(m.Data))
			if _, err := io.ReadFull(b, raw); err != nil {
				return h, nil, fmt.Errorf("captured operands: layer %d: %w", n, err)
			}
			for at := range m.Data {
				m.Data[at] = tensor.BF16Value(binary.LittleEndian.Uint16(raw[2*at:]))
			}
		}
	}
	return h, layers, nil
}
