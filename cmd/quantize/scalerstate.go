package main

import (
	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/packer"
	"quantize/smoothing"
)

// scalerState is what a journal keeps of a scaler: what it has made for the
// layers that are done.
type scalerState struct {
	Done    int
	Pre     [][]float64
	Plan    [][]smoothing.FeedScale
	Sidecar packer.Sidecar // the vectors of layers only
	Clips   map[string]*smoothing.Clipping
}

// scalesKey is the part that has the state.
const scalesKey = "scales"

func (s *scaler) phase() *calibrate.Phase {
	return &calibrate.Phase{Key: scalesKey, Save: s.save, Restore: s.restore}
}

func (s *scaler) save() ([]byte, error) {
	state := scalerState{Done: s.done, Clips: s.clips}
	if s.pre != nil {
		state.Pre = s.pre.ByLayer[:s.done]
	}
	if s.plan != nil {
		for layer := range s.done {
			state.Plan = append(state.Plan, s.plan.Layer(layer))
		}
	}
	if c := s.sidecar; c != nil {
		state.Sidecar = packer.Sidecar{KeyScales: c.KeyScales, KeyMeans: c.KeyMeans, ValueMeans: c.ValueMeans, KScales: c.KScales, VScales: c.VScales}
	}
	return calibrate.Encode(state)
}

func (s *scaler) restore(data []byte) error {
	var state scalerState
	if err := calibrate.Decode(data, &state); err != nil {
		return err
	}
	s.done, s.clips = state.Done, state.Clips
	if s.pre != nil {
		copy(s.pre.ByLayer, state.Pre)
	}
	for layer, scales := range state.Plan {
		if err := s.plan.Set(layer, scales); err != nil {
			return err
		}
	}
	if c, kept := s.sidecar, state.Sidecar; c != nil {
		c.KeyScales, c.KeyMeans, c.ValueMeans, c.KScales, c.VScales = kept.KeyScales, kept.KeyMeans, kept.ValueMeans, kept.KScales, kept.VScales
	}
	return nil
}

// unmeasured makes the scales of all layers from their weights alone.
func (s *scaler) unmeasured() error {
	journal := s.loaded.journal
	if p := journal.Load(scalesKey); p != nil {
		defer func() { _ = p.Close() }() // it was only read
		data, err := p.Bytes("state")
		if err == nil {
			err = s.restore(data)
		}
		if err != nil {
			return err
		}
	}
	for s.done < s.loaded.config.Layers {
		if err := s.layer(s.done, &calibrate.Stats{}); err != nil {
			return err
		}
		data, err := s.save()
		if err != nil {
			return err
		}
		if err := journal.Store(scalesKey, checkpoint.SectionOf("state", data)); err != nil {
			return err
		}
	}
	return nil
}
