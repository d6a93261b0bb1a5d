package packer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"quantize/checkpoint"
	"quantize/model"
)

// streamKey is the part that holds the residual streams after one block. It is
// replaced as the run goes on, after that block is in the journal.
//
//	after: layer u64 | x: F32 of all windows | y: the same, with FullPrecision
const streamKey = "stream"

// Restored tells of a block that was rounded by an earlier run. Where the
// residual streams after it are not in the journal, it is run again with the
// weights that it has: the same bytes, and nothing is searched or solved.
func (s *Sequential) Restored(layer int, weights func() (map[string]Weight, error)) {
	s.restored[layer] = weights
}

// enter moves on to the block of a module.
func (s *Sequential) enter(ctx context.Context, module string) error {
	to := s.o.Weights.Config().LayerOf(module)
	if to < s.layer {
		return fmt.Errorf("packer: %s after layer %d", module, s.layer)
	}
	if to == s.layer {
		return nil
	}
	if err := s.jump(to); err != nil {
		return err
	}
	for s.layer < to {
		if s.block != nil {
			if err := s.finish(ctx); err != nil {
				return err
			}
		}
		s.layer++
		if err := s.load(); err != nil {
			return err
		}
		if s.layer < to {
			if err := s.replace(); err != nil {
				return err
			}
		}
	}
	return nil
}

// jump takes the streams from the journal where that has them for a block
// between this one and to.
func (s *Sequential) jump(to int) error {
	if len(s.restored) == 0 {
		return nil
	}
	p := s.o.Journal.Load(streamKey)
	if p == nil {
		return nil
	}
	defer func() { _ = p.Close() }() // it was only read
	data, err := p.Bytes("after")
	if err != nil {
		return err
	}
	after := int(binary.LittleEndian.Uint64(data))
	if after < s.layer || after >= to {
		return nil
	}
	if err := s.x.Fill(p.Section("x")); err != nil {
		return err
	}
	if s.y != nil {
		if err := s.y.Fill(p.Section("y")); err != nil {
			return err
		}
	}
	s.layer, s.block, s.exact = after, nil, nil
	return nil
}

// replace puts the weights of an earlier run into the block.
func (s *Sequential) replace() error {
	read := s.restored[s.layer]
	if read == nil {
		return nil // nothing of it is quantized
	}
	weights, err := read()
	if err != nil {
		return err
	}
	for module, w := range weights {
		if err := s.install(module, w); err != nil {
			return err
		}
	}
	return nil
}

// install makes a rounded weight the block's own.
func (s *Sequential) install(module string, w Weight) error {
	bias, err := s.bias(module)
	if err != nil {
		return err
	}
	l, err := s.o.Linear(w, bias)
	if err != nil {
		return err
	}
	s.block.SetLinear(s.rules[module], l)
	return nil
}

// finish brings the streams to the end of the block and keeps them.
func (s *Sequential) finish(ctx context.Context) error {
	if err := s.advance(ctx, model.DownIn, true); err != nil {
		return err
	}
	sections := []checkpoint.Section{
		checkpoint.SectionOf("after", binary.LittleEndian.AppendUint64(nil, uint64(s.layer))),
		{Name: "x", Bytes: s.x.Bytes(), Data: s.x.Reader()},
	}
	if s.y != nil {
		sections = append(sections, checkpoint.Section{Name: "y", Bytes: s.y.Bytes(), Data: s.y.Reader()})
	}
	return s.o.Journal.Store(streamKey, sections...)
}

// advance brings the residual streams to where point p reads them, or beyond p
// to the end of the block.
func (s *Sequential) advance(ctx context.Context, p model.Point, beyond bool) error {
	attention := (s.point == "" || s.point == model.AttnIn || s.point == model.OIn) && p != model.AttnIn && p != model.OIn
	if !attention && !beyond {
		return nil
	}
	for i := range s.x.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := step(s.x, i, s.block, attention, beyond)
		if s.exact != nil {
			err = errors.Join(err, step(s.y, i, s.exact, attention, beyond))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// step moves one window through a half of the block, or through both.
func step(h *model.Hidden, i int, b *model.Block, attention, mlp bool) error {
	x, err := h.Get(i)
	if err != nil {
		return err
	}
	if attention {
		b.FinishAttention(x, nil)
	}
	if mlp {
		b.FinishMLP(x, nil)
	}
	return h.Put(i, x)
}
