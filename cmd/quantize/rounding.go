package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"quantize/checkpoint"
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
)

// roundingWindows of the calibration text are enough for ratios of energies.
const roundingWindows = 4

// roundingKey is the part of the journal that keeps what was measured.
const roundingKey = "rounding"

// measureRounding runs the first windows through the transformed model in full precision
// and measures what rounding activations to FP8, and keys and values to the cache's
// format, would take from it; nil where the recipe does neither.
func (e *env) measureRounding(ctx context.Context, l *loaded, j job, windows [][]int32, t *transforms) (*packer.Rounding, error) {
	decision, err := decide(l.config, j.recipe)
	if err != nil || !j.recipe.Calibrated() {
		return nil, err
	}
	o := kernels.RoundingOptions{Sidecar: t.sidecar}
	if decision.Scheme != packer.W4A16 {
		o.Inputs = l.compute.RoundTokens
	}
	run, err := l.runtime(t.sidecar)
	if err != nil {
		return nil, err
	}
	if t.sidecar != nil {
		o.Scheme = t.sidecar.KV
	}
	if o.Inputs == nil && o.Scheme.Format == packer.KVNone {
		return nil, nil
	}
	if p := l.journal.Load(roundingKey); p != nil {
		defer func() { _ = p.Close() }() // it was only read
		return readRounding(p)
	}
	if t.pre != nil {
		o.KeyFactors = t.pre.ByLayer
	}
	meter, err := kernels.NewRoundingMeter(l.config, o)
	if err != nil {
		return nil, err
	}
	weights, err := l.fold(t.list)
	if err != nil {
		return nil, err
	}
	m, err := model.New(weights.Config(), weights, l.compute)
	if err != nil {
		return nil, err
	}
	bar := e.progress("rounding")
	defer bar.end()
	_, err = m.WithRuntime(model.Runtime{DownIn: run.DownIn, Cache: meter.Cache}).Stream(ctx, windows[:min(roundingWindows, len(windows))], model.StreamOptions{
		Observe: meter.Observe,
		OnBlock: func(done, total int) { bar.set(int64(done), int64(total)) },
	})
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(meter.Measured())
	if err != nil {
		return nil, fmt.Errorf("rounding: %w", err)
	}
	return meter.Measured(), l.journal.Store(roundingKey, checkpoint.SectionOf("json", data))
}

func readRounding(p *checkpoint.Part) (*packer.Rounding, error) {
	data, err := p.Bytes("json")
	if err != nil {
		return nil, err
	}
	r := new(packer.Rounding)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return r, d.Decode(r)
}
