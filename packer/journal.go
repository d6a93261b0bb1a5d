package packer

import (
	"encoding/json"
	"fmt"

	"quantize/checkpoint"
	"quantize/internal/fault"
)

// A finished block is a part of the journal: what is written for it, tensor by
// tensor, and what the manifest says of its linears.
//
//	block-0007   layers: JSON of []Layer | model.layers.7.self_attn.q_proj.weight_packed | ...
const (
	// BlockPart begins the keys of finished blocks.
	BlockPart     = "block-"
	layersSection = "layers"
)

func blockKey(layer int) string { return fmt.Sprintf("%s%04d", BlockPart, layer) }

// block is the linears to quantize of one decoder block.
type block struct {
	layer   int
	linears []LinearShape
}

// blocks groups the linears, which are in the order of computation.
func (e *exporter) blocks() []block {
	var list []block
	for _, l := range e.plan.linears {
		layer := e.options.Model.LayerOf(l.Name)
		if len(list) == 0 || list[len(list)-1].layer != layer {
			list = append(list, block{layer: layer})
		}
		b := &list[len(list)-1]
		b.linears = append(b.linears, l)
	}
	return list
}

// restore writes a block that an earlier run has finished, and reports false
// where none has.
func (e *exporter) restore(b block) ([]Layer, bool, error) {
	p := e.options.Journal.Load(blockKey(b.layer))
	if p == nil {
		return nil, false, nil
	}
	defer func() { _ = p.Close() }() // it was only read
	data, err := p.Bytes(layersSection)
	if err != nil {
		return nil, false, err
	}
	var layers []Layer
	if err := json.Unmarshal(data, &layers); err != nil {
		return nil, false, fmt.Errorf("journal: %w", err)
	}
	for _, s := range p.Sections() {
		if s.Name == layersSection {
			continue
		}
		if err := e.writer.AddFrom(s.Name, p.Section(s.Name)); err != nil {
			return nil, false, err
		}
	}
	for _, l := range b.linears {
		e.sources[l.Name+weightSuffix] = e.options.Sources[l.Name+weightSuffix]
	}
	return layers, true, nil
}

// keep stores a block that is finished.
func (e *exporter) keep(layer int, layers []Layer, tensors []stored) error {
	data, err := json.Marshal(layers)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	sections := []checkpoint.Section{checkpoint.SectionOf(layersSection, data)}
	for _, t := range tensors {
		sections = append(sections, checkpoint.SectionOf(t.name, t.data))
	}
	return e.options.Journal.Store(blockKey(layer), sections...)
}

// weights reads the rounded weights of a finished block again.
func (e *exporter) weights(b block) (map[string]Weight, error) {
	p := e.options.Journal.Load(blockKey(b.layer))
	if p == nil {
		return nil, &fault.Error{Err: checkpoint.ErrOutput, Where: e.options.Journal.Dir(), Found: "no " + blockKey(b.layer), Wanted: "what was there a moment ago", Hint: "run the same command again"}
	}
	defer func() { _ = p.Close() }() // it was only read
	src := partTensors{p, map[string]checkpoint.Info{}}
	out := map[string]Weight{}
	for _, l := range b.linears {
		for _, info := range e.plan.scheme.layout(l, e.plan.group) {
			src.infos[info.Name] = info
		}
		var err error
		if e.plan.scheme == FP8 {
			out[l.Name], err = readFP8(src, l.Name)
		} else {
			out[l.Name], err = readInt4(src, l.Name, e.plan.group, e.plan.scheme == W4A8)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// partTensors reads tensors from a part.
type partTensors struct {
	part  *checkpoint.Part
	infos map[string]checkpoint.Info
}

func (p partTensors) Info(name string) (checkpoint.Info, error) { return p.infos[name], nil }

func (p partTensors) Raw(name string, _ []byte) ([]byte, error) { return p.part.Bytes(name) }

// checkSource compares a tensor's hash with that of the source when the run
// began: what was kept of one source is not mixed with another.
func (e *exporter) checkSource(name, sum string) error {
	if want := e.options.Sources[name]; want != "" && want != sum {
		return &fault.Error{
			Err: checkpoint.ErrChanged, Where: e.reader.File(name), Found: fmt.Sprintf("other bytes of tensor %s than when the run began", name),
			Wanted: "a source that nobody changes meanwhile", Hint: "run again when it is complete",
		}
	}
	return nil
}
