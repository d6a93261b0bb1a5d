package model_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// watched is a source that notes the layers it is asked for and whether two
// goroutines ask at once. From layer broken on its linears fail.
type watched struct {
	model.Source
	busy   atomic.Bool
	shared atomic.Bool
	layers []string // of linears, each once
	broken string
	closed atomic.Bool // Stream has returned
	late   atomic.Bool // and the source was asked after that
}

var errBroken = errors.New("broken")

func (w *watched) enter() func() {
	if w.busy.Swap(true) {
		w.shared.Store(true)
	}
	if w.closed.Load() {
		w.late.Store(true)
	}
	return func() { w.busy.Store(false) }
}

func (w *watched) Linear(name string) (model.Linear, error) {
	defer w.enter()()
	layer := strings.Split(name, ".")[2]
	if layer == w.broken {
		return nil, errBroken
	}
	if !slices.Contains(w.layers, layer) {
		w.layers = append(w.layers, layer)
	}
	return w.Source.Linear(name)
}

func (w *watched) Matrix(name string) (tensor.Matrix, error) {
	defer w.enter()()
	return w.Source.Matrix(name)
}

// The source is asked in order by one goroutine at a time, at most one block
// ahead of the one that computes, and by none after Stream has returned.
func TestBlocksLoadAhead(t *testing.T) {
	t.Parallel()
	s := modeltest.Shapes()[0]
	s.Layers = 6
	c := modeltest.Random(0, s)
	compute := modeltest.Compute()
	for _, test := range []struct {
		name   string
		broken string
		cancel bool // in block 0
		err    error
		layers []string // the most that may have loaded
	}{
		{"whole", "", false, nil, []string{"0", "1", "2", "3", "4", "5"}},
		{"broken", "3", false, errBroken, []string{"0", "1", "2"}},
		{"broken at once", "0", false, errBroken, nil},
		{"cancelled", "", true, context.Canceled, []string{"0", "1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &watched{Source: c.Source(compute), broken: test.broken}
			m, err := model.New(c.Parsed(), w, compute)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			seen := 0
			_, err = m.Stream(ctx, [][]int32{{1, 2}, {3}}, model.StreamOptions{
				Observe: func(model.Site, tensor.Matrix) {
					if test.cancel {
						cancel()
					}
				},
				OnBlock: func(done, _ int) { seen = done },
			})
			w.closed.Store(true)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if n := len(w.layers); n > len(test.layers) || !slices.Equal(w.layers, test.layers[:n]) {
				t.Errorf("layers %v were loaded, want %v", w.layers, test.layers)
			}
			if !test.cancel && seen != len(test.layers) {
				t.Errorf("%d blocks were computed, want %d", seen, len(test.layers))
			}
			if w.shared.Load() || w.late.Load() {
				t.Errorf("the source was asked by two at once: %v, after the end: %v", w.shared.Load(), w.late.Load())
			}
		})
	}
}
