package model_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// spilling keeps so many bytes in memory, and the rest in a file of the test.
func spilling(t *testing.T, bytes int64) model.Buffer {
	return model.Buffer{Bytes: bytes, File: func() (model.BufferFile, error) {
		return os.Create(filepath.Join(t.TempDir(), "spill"))
	}}
}

// Windows that go through a file come out as those in memory, also from the
// middle of the model on.
func TestHiddenSpills(t *testing.T) {
	t.Parallel()
	shape := modeltest.Shapes()[0]
	shape.Layers = 3
	c := modeltest.Random(6, shape)
	m, err := model.New(c.Parsed(), c.Source(modeltest.Compute()), modeltest.Compute())
	if err != nil {
		t.Fatal(err)
	}
	windows := [][]int32{{1, 2, 3, 1}, {4}, {5, 6, 7}, {2, 2}}
	pass := func(h *model.Hidden, from int, after func(int) error) [][]float32 {
		t.Helper()
		if err := m.Blocks(t.Context(), h, from, model.StreamOptions{}, after); err != nil {
			t.Fatal(err)
		}
		var out [][]float32
		for i := range h.Len() {
			x, err := h.Get(i)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, slices.Clone(x.Data))
		}
		return out
	}
	embed := func(b model.Buffer) *model.Hidden {
		t.Helper()
		h, err := m.EmbedIn(windows, b)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Close() })
		return h
	}
	want := pass(embed(model.Buffer{}), 0, nil)
	row := int64(4 * shape.Hidden)
	for _, bytes := range []int64{1, 4 * row, 5 * row, 9 * row, 1 << 20} {
		h := embed(spilling(t, bytes))
		var kept []byte // after block 0
		got := pass(h, 0, func(done int) error {
			if done == 1 {
				kept, err = io.ReadAll(h.Reader())
			}
			return err
		})
		if int64(len(kept)) != h.Bytes() {
			t.Fatalf("%d bytes of hidden states, want %d", len(kept), h.Bytes())
		}
		again := embed(spilling(t, bytes))
		if err := again.Fill(&halting{data: kept}); err != nil {
			t.Fatal(err)
		}
		for name, x := range map[string][][]float32{"whole": got, "from block 1": pass(again, 1, nil)} {
			if !slices.EqualFunc(x, want, slices.Equal[[]float32]) {
				t.Errorf("%d bytes in memory, %s: other values", bytes, name)
			}
		}
		if err := again.Fill(&halting{data: kept[:7]}); !errors.Is(err, model.ErrInput) {
			t.Errorf("cut short: %v", err)
		}
	}
}

// halting reads a few bytes at a time.
type halting struct{ data []byte }

func (h *halting) Read(p []byte) (int, error) {
	if len(h.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 5)], h.data)
	h.data = h.data[n:]
	return n, nil
}

// brokenFile is a disk that is full.
type brokenFile struct{ model.BufferFile }

var errFull = errors.New("full")

func (brokenFile) WriteAt([]byte, int64) (int, error) { return 0, errFull }
func (brokenFile) ReadAt([]byte, int64) (int, error)  { return 0, errFull }
func (brokenFile) Close() error                       { return nil }

func TestHiddenOnAFullDisk(t *testing.T) {
	t.Parallel()
	c := modeltest.Random(6, modeltest.Shapes()[0])
	m, err := model.New(c.Parsed(), c.Source(modeltest.Compute()), modeltest.Compute())
	if err != nil {
		t.Fatal(err)
	}
	full := model.Buffer{Bytes: 1, File: func() (model.BufferFile, error) { return brokenFile{}, nil }}
	if _, err := m.EmbedIn([][]int32{{1, 2}}, full); !errors.Is(err, errFull) {
		t.Errorf("embed: %v", err)
	}
	none := model.Buffer{Bytes: 1, File: func() (model.BufferFile, error) { return nil, errFull }}
	if _, err := m.EmbedIn([][]int32{{1, 2}}, none); !errors.Is(err, errFull) {
		t.Errorf("no file: %v", err)
	}
	h, err := model.NewHidden([]int{2}, 4, full)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(0); !errors.Is(err, errFull) {
		t.Errorf("get: %v", err)
	}
	if err := h.Put(0, tensor.NewMatrix(2, 4)); !errors.Is(err, errFull) {
		t.Errorf("put: %v", err)
	}
	if _, err := io.ReadAll(h.Reader()); !errors.Is(err, errFull) {
		t.Errorf("reader: %v", err)
	}
}
