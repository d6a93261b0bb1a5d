package main

import (
	"context"
	"fmt"
	"slices"

	"quantize/calibrate"
	"quantize/model"
	"quantize/packer"
	"quantize/smoothing"
	"quantize/tensor"
)

// clip searches how far the weights of a block are clipped, with all transforms
// applied. The Hessians of stats become those of the scaled activations.
func (s *scaler) clip(layer int, stats *calibrate.Stats) error {
	weights, err := s.loaded.fold(s.all)
	if err != nil {
		return err
	}
	p, err := weights.Block(layer)
	if err != nil {
		return err
	}
	hessians := map[model.Point]*calibrate.Hessian{}
	for i := range stats.Sites {
		if site := &stats.Sites[i]; site.Hessian != nil {
			s.plan.Hessian(site.Site, site.Hessian)
			hessians[site.Site.Point] = site.Hessian
		}
	}
	found, err := smoothing.Clip(s.loaded.config, layer, p, hessians, s.fake(), smoothing.ClipOptions{GroupSize: s.decision.Group, MatMulT: s.loaded.compute.MatMulT})
	if err != nil {
		return err
	}
	if s.clips == nil {
		s.clips = map[string]*smoothing.Clipping{}
	}
	for i := range found {
		s.clips[fmt.Sprintf("%s%d.%s", s.loaded.config.Arch.Layers, layer, found[i].Module)] = &found[i]
	}
	return nil
}

// clipped bounds each weight before round, nil for to nearest, has it.
func clipped(clips map[string]*smoothing.Clipping, round rounder) rounder {
	if round == nil {
		round = func(_ context.Context, _ string, w tensor.Matrix, o packer.Int4Options) (packer.Weight, packer.Layer, error) {
			return nearest(w, o)
		}
	}
	return func(ctx context.Context, module string, w tensor.Matrix, o packer.Int4Options) (packer.Weight, packer.Layer, error) {
		if c := clips[module]; c != nil {
			for n := range w.Rows {
				limits := c.Limit.Row(n)
				for part := range slices.Chunk(w.Row(n), c.GroupSize) {
					limit := limits[0]
					limits = limits[1:]
					for j, v := range part {
						part[j] = min(max(v, -limit), limit)
					}
				}
			}
		}
		return round(ctx, module, w, o)
	}
}
