package packer

import (
	"quantize/checkpoint"
)

// Preview is what [Export] would do, known before any weight is read.
type Preview struct {
	Scheme   Scheme        // what config.json would declare
	Group    int           // group size of the INT4 schemes
	Grid     Grid          // what the codes of the INT4 schemes would be chosen against
	Linears  []LinearShape // that would be quantized, in the order of computation
	Ignored  []string      // linears that would stay as they are
	Notes    []string
	BytesIn  int64 // tensor data of the source
	BytesOut int64 // tensor data of the output
	Rounded  int64 // of that, of the quantized linears
}

// PreviewExport checks the headers and the configuration of r against o as
// [Export] does. Transforms of o count only where they add a head.
func PreviewExport(r *checkpoint.Reader, o ExportOptions) (*Preview, error) {
	p, err := planExport(r, &o)
	if err != nil {
		return nil, err
	}
	out := &Preview{Scheme: p.scheme, Group: p.group, Grid: p.grid, Linears: p.linears, Ignored: p.ignore, Notes: p.notes}
	for _, name := range r.Names() {
		info, err := r.Info(name)
		if err != nil {
			return nil, err
		}
		out.BytesIn += info.Bytes()
	}
	for _, info := range p.tensors {
		out.BytesOut += info.Bytes()
	}
	for _, l := range p.linears {
		for _, info := range p.scheme.layout(l, p.group) {
			out.Rounded += info.Bytes()
		}
	}
	return out, nil
}
