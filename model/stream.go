package model

import (
	"context"

	"quantize/tensor"
)

// StreamOptions are the options of [Model.Stream].
type StreamOptions struct {
	// Observe sees every named activation: all windows of block 0 in order,
	// then all windows of block 1, and so on.
	Observe Observer
	// OnBlock is called after each block.
	OnBlock func(done, total int)
}

// Stream runs every window through the model and returns the hidden states
// after the final norm, (len(window), Hidden) each. While one block computes,
// the next one loads, so that two are in memory at a time; the hidden states of
// all windows are. The source is asked by one goroutine at a time, which until
// Stream returns is not the caller's: Observe and OnBlock leave it alone. A
// cancelled context stops it between two windows with the context's error.
func (m *Model) Stream(ctx context.Context, windows [][]int32, o StreamOptions) ([]tensor.Matrix, error) {
	hidden, err := m.EmbedIn(windows, Buffer{})
	if err != nil {
		return nil, err
	}
	if err := m.Blocks(ctx, hidden, 0, o, nil); err != nil {
		return nil, err
	}
	if err := m.FinalNorm(hidden.memory); err != nil {
		return nil, err
	}
	return hidden.memory, nil
}

// Blocks runs the hidden states, which are the input of block from, through it
// and all blocks after it, as Stream does. After OnBlock, after takes the output
// of each, unless it is nil; an error of it ends the run.
func (m *Model) Blocks(ctx context.Context, hidden *Hidden, from int, o StreamOptions, after func(done int) error) error {
	next, stop := m.loadAhead(from)
	defer stop()
	var shared buffers
	for layer := from; layer < m.Config.Layers; layer++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := <-next
		if l.err != nil {
			return l.err
		}
		l.block.buffers = &shared
		for i := range hidden.Len() {
			if err := ctx.Err(); err != nil {
				return err
			}
			x, err := hidden.Get(i)
			if err != nil {
				return err
			}
			l.block.Forward(x, o.Observe)
			if err := hidden.Put(i, x); err != nil {
				return err
			}
		}
		if o.OnBlock != nil {
			o.OnBlock(layer+1, m.Config.Layers)
		}
		if after != nil {
			if err := after(layer + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadedBlock is a block, or why there is none.
type loadedBlock struct {
	block *Block
	err   error
}

// loadAhead loads the blocks in order from one on, each while the one before is in use, up
// to the first error. stop ends it and waits for the load that is under way.
func (m *Model) loadAhead(from int) (next <-chan loadedBlock, stop func()) {
	blocks, stopped, ended := make(chan loadedBlock), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for layer := from; layer < m.Config.Layers; layer++ {
			b, err := m.Block(layer)
			select {
			case blocks <- loadedBlock{b, err}:
			case <-stopped:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return blocks, func() { close(stopped); <-ended }
}
