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
// after the final norm, (len(window), Hidden) each. One block is in memory at a
// time; the hidden states of all windows are. A cancelled context stops it
// between two windows with the context's error.
func (m *Model) Stream(ctx context.Context, windows [][]int32, o StreamOptions) ([]tensor.Matrix, error) {
	hidden, err := m.Embed(windows)
	if err != nil {
		return nil, err
	}
	var shared buffers
	for layer := range m.Config.Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := m.Block(layer)
		if err != nil {
			return nil, err
		}
		b.buffers = &shared
		for _, x := range hidden {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			b.Forward(x, o.Observe)
		}
		if o.OnBlock != nil {
			o.OnBlock(layer+1, m.Config.Layers)
		}
	}
	if err := m.FinalNorm(hidden); err != nil {
		return nil, err
	}
	return hidden, nil
}
