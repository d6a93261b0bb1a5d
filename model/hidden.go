package model

import (
	"fmt"
	"io"

	"quantize/internal/fault"
	"quantize/tensor"
)

// Buffer bounds the memory that hidden states take; the zero value does not.
type Buffer struct {
	Bytes int64                      // in memory, 0 for no bound
	File  func() (BufferFile, error) // makes the file of what is beyond
}

// BufferFile is where hidden states go that memory has no room for.
type BufferFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// Hidden holds the hidden states of windows, (len(window), Hidden) each: the
// first ones in memory, as far as a [Buffer] goes, the others in a file, from
// which one at a time is read. The values are the same, to the bit. It is for one
// goroutine.
type Hidden struct {
	rows   []int
	cols   int
	memory []tensor.Matrix // of the first windows
	file   BufferFile      // nil: there are no others
	at     []int64         // their offsets, by window

	one []float32 // the window that was read
	raw []byte
}

// NewHidden makes room for windows of so many tokens.
func NewHidden(rows []int, cols int, b Buffer) (*Hidden, error) {
	h := &Hidden{rows: rows, cols: cols, at: make([]int64, len(rows))}
	var used, spilled int64
	for i, n := range rows {
		size := 4 * int64(n) * int64(cols)
		if spilled == 0 && (b.Bytes == 0 || used+size <= b.Bytes) {
			used += size
			h.memory = append(h.memory, tensor.NewMatrix(n, cols))
			continue
		}
		h.at[i] = spilled
		spilled += size
	}
	if spilled == 0 {
		return h, nil
	}
	var err error
	h.file, err = b.File()
	return h, err
}

// Close frees the file.
func (h *Hidden) Close() error {
	if h == nil || h.file == nil {
		return nil
	}
	return h.file.Close()
}

// Len is the number of windows.
func (h *Hidden) Len() int { return len(h.rows) }

// Bytes is the size of all.
func (h *Hidden) Bytes() int64 {
	var n int64
	for _, r := range h.rows {
		n += 4 * int64(r) * int64(h.cols)
	}
	return n
}

// Get returns window i. It is valid until the next Get, and whoever changes it
// puts it back.
func (h *Hidden) Get(i int) (tensor.Matrix, error) {
	if i < len(h.memory) {
		return h.memory[i], nil
	}
	n := h.rows[i] * h.cols
	h.fit(n)
	if _, err := h.file.ReadAt(h.raw[:4*n], h.at[i]); err != nil {
		return tensor.Matrix{}, fmt.Errorf("read hidden states: %w", err)
	}
	x := tensor.MatrixOf(h.rows[i], h.cols, h.one[:n])
	return x, tensor.Decode(x.Data, h.raw[:4*n], tensor.F32)
}

// Put takes window i back, or another in its place.
func (h *Hidden) Put(i int, x tensor.Matrix) error {
	if i < len(h.memory) {
		copy(h.memory[i].Data, x.Data)
		return nil
	}
	return h.write(x.Data, h.at[i])
}

// setRow gives a row of window i its values.
func (h *Hidden) setRow(i, row int, values []float32) error {
	if i < len(h.memory) {
		copy(h.memory[i].Row(row), values)
		return nil
	}
	return h.write(values, h.at[i]+4*int64(row)*int64(h.cols))
}

func (h *Hidden) write(values []float32, at int64) error {
	h.fit(len(values))
	raw := h.raw[:4*len(values)]
	if err := tensor.Encode(raw, values, tensor.F32); err != nil {
		return err
	}
	if _, err := h.file.WriteAt(raw, at); err != nil {
		return fmt.Errorf("write hidden states: %w", err)
	}
	return nil
}

func (h *Hidden) fit(n int) {
	if len(h.one) < n {
		h.one, h.raw = make([]float32, n), make([]byte, 4*n)
	}
}

// Reader gives all values, little-endian, window after window.
func (h *Hidden) Reader() io.Reader { return &hiddenReader{hidden: h} }

type hiddenReader struct {
	hidden *Hidden
	next   int
	raw    []byte // of the window before next
	left   []byte
}

func (r *hiddenReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		if r.next == r.hidden.Len() {
			return 0, io.EOF
		}
		x, err := r.hidden.Get(r.next)
		if err != nil {
			return 0, err
		}
		if n := 4 * len(x.Data); len(r.raw) < n {
			r.raw = make([]byte, n)
		}
		r.left = r.raw[:4*len(x.Data)]
		if err := tensor.Encode(r.left, x.Data, tensor.F32); err != nil {
			return 0, err
		}
		r.next++
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// Fill replaces all values by those that Reader gave.
func (h *Hidden) Fill(from io.Reader) error {
	for i, n := range h.rows {
		raw := make([]byte, 4*n*h.cols)
		if _, err := io.ReadFull(from, raw); err != nil {
			return &fault.Error{Err: ErrInput, Where: "hidden states", Found: err.Error(), Wanted: fmt.Sprintf("%d bytes", h.Bytes())}
		}
		x, err := h.Get(i)
		if err != nil {
			return err
		}
		if err := tensor.Decode(x.Data, raw, tensor.F32); err != nil {
			return err
		}
		if err := h.Put(i, x); err != nil {
			return err
		}
	}
	return nil
}
