package packer

import (
	"fmt"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
)

// exportPlan is everything that is known before the first weight is read.
type exportPlan struct {
	scheme  Scheme // what config.json declares
	group   int
	grid    Grid             // of the INT4 codes
	linears []LinearShape    // to be quantized, in order of computation
	ignore  []string         // linear modules that stay as they are
	copies  []string         // source tensors that are copied unchanged
	known   map[string]bool  // of those, the model's own: NaN in them is a fault
	folded  []model.Expected // tensors beside linears that are written transformed
	untied  bool             // the head becomes a matrix of its own
	arch    string           // the architecture's name
	name    *edit            // that config.json lacks; nil: none
	omitted []string         // source tensors that are left out
	tensors []checkpoint.Info
	notes   []string
}

// planExport checks the source against its config and the options, and lists
// what will be written.
func planExport(r *checkpoint.Reader, o *ExportOptions) (*exportPlan, error) {
	if q, err := ParseQuantizationConfig(r.ConfigJSON()); q != nil || err != nil {
		return nil, &fault.Error{
			Err: ErrInvalid, Where: "config.json quantization_config", Found: "a checkpoint that is already quantized",
			Wanted: "bf16, fp16 or fp32 weights", Hint: "start from the original model",
		}
	}
	if err := model.Check(o.Model, r); err != nil {
		return nil, err
	}
	p := &exportPlan{scheme: o.Scheme, arch: o.Model.Arch.Name}
	if o.Scheme.String() == "unset" {
		return nil, &fault.Error{Err: ErrOption, Where: "scheme", Found: "none", Wanted: "w4a8, w4a16 or fp8"}
	}
	wanted := map[string]bool{}
	for _, name := range o.Linears {
		wanted[name] = true
	}
	for _, e := range model.Tensors(o.Model) {
		switch {
		case e.Kind != model.KindLinear:
		case o.Linears == nil || wanted[e.Module]:
			p.linears = append(p.linears, LinearShape{e.Module, e.Shape[0], e.Shape[1]})
			delete(wanted, e.Module)
		default:
			p.ignore = append(p.ignore, e.Module)
		}
	}
	if len(wanted) > 0 {
		for _, name := range o.Linears { // the first in the caller's order
			if wanted[name] {
				return nil, &fault.Error{Err: ErrOption, Where: name, Found: "no such linear", Wanted: "linears of the decoder blocks, for example " + p.example()}
			}
		}
	}
	p.ignore = append(p.ignore, o.Model.Arch.Head)
	if len(Routers(o.Model)) > 0 {
		p.ignore = append(p.ignore, RouterPattern)
	}
	if err := p.decide(o); err != nil {
		return nil, err
	}
	p.notes = append(p.notes, o.Notes...)
	name, note, err := identify(r.ConfigJSON(), o.Model.Arch)
	if err != nil {
		return nil, err
	}
	if name != nil {
		p.name, p.notes = name, append(p.notes, note)
	}
	if err := p.list(r, o); err != nil {
		return nil, err
	}
	if err := p.planCache(o); err != nil {
		return nil, err
	}
	if o.Private != "" {
		p.notes = append(p.notes, "no other runtime: "+o.Private)
		return p, nil
	}
	p.notes = append(p.notes, Runtimes(p.scheme, p.group, p.linears)...)
	return p, nil
}

func (p *exportPlan) example() string {
	if len(p.linears) > 0 {
		return p.linears[0].Name
	}
	return p.ignore[0]
}

// decide settles scheme, group size and grid.
func (p *exportPlan) decide(o *ExportOptions) error {
	d, err := Decide(o.Scheme, p.linears, o.Int4.GroupSize, o.Int4.Grid)
	if err != nil {
		return err
	}
	p.scheme, p.group, p.grid = d.Scheme, d.Group, d.Grid
	if d.Note != "" {
		p.notes = append(p.notes, d.Note)
	}
	return nil
}

// list sorts the source's tensors into copied, transformed, replaced and left
// out. Tensors that the model does not know are copied, and the user is told.
func (p *exportPlan) list(r *checkpoint.Reader, o *ExportOptions) error {
	replaced, changed := map[string]LinearShape{}, map[string]model.Expected{}
	for _, l := range p.linears {
		replaced[l.Name+weightSuffix] = l
	}
	p.known = map[string]bool{}
	for _, t := range model.Tensors(o.Model) {
		p.known[t.Name] = true
	}
	cfg := o.Model
	if o.Folded != nil {
		p.untied = cfg.TieEmbeddings && !o.Folded.Config().TieEmbeddings
		cfg = o.Folded.Config()
		for _, t := range model.Tensors(cfg) {
			if _, quantized := replaced[t.Name]; !quantized {
				changed[t.Name] = t
			}
		}
	}
	stale, err := leftovers(o.Model, r.Names())
	if err != nil {
		return err
	}
	var dropped []string
	head := cfg.Arch.Head + weightSuffix
	for _, name := range r.Names() {
		info, err := r.Info(name)
		if err != nil {
			return err
		}
		l, quantized := replaced[name]
		t, transformed := changed[name]
		switch {
		case name == head && (cfg.TieEmbeddings || p.untied):
			// Beside tied embeddings runtimes disagree about a head of its own.
			p.omitted = append(p.omitted, name)
		case o.isCache(name): // a source may come with scales of another cache
			p.omitted = append(p.omitted, name)
		case stale[name]:
			p.omitted, dropped = append(p.omitted, name), append(dropped, name)
		case quantized:
			p.tensors = append(p.tensors, p.scheme.layout(l, p.group)...)
		case transformed:
			t.Info = info
			p.folded = append(p.folded, t)
			p.tensors = append(p.tensors, info)
		default:
			p.copies = append(p.copies, name)
			p.tensors = append(p.tensors, info)
		}
	}
	p.remarks(dropped)
	if p.untied {
		t := changed[head]
		info, err := r.Info(cfg.Arch.Embedding + weightSuffix)
		if err != nil {
			return err
		}
		t.DType = info.DType
		p.folded = append(p.folded, t)
		p.tensors = append(p.tensors, t.Info)
		p.notes = append(p.notes, fmt.Sprintf("the rotation unties embedding and head: %d MB more, and tie_word_embeddings is false", t.Bytes()/1e6))
	}
	slices.Sort(p.omitted)
	return nil
}
