package modeltest

import (
	"fmt"
	"slices"
	"strings"

	"quantize/model"
)

// Apply runs transforms over all weights in float64 and returns the new weights
// with the config that describes them. w is left alone.
func (w Float64) Apply(cfg *model.Config, transforms ...model.Transform) (Float64, *model.Config) {
	out, changed := Float64{}, *cfg
	for name, data := range w {
		out[name] = slices.Clone(data)
	}
	embedding, head, norm := cfg.Arch.Embedding+".weight", cfg.Arch.Head+".weight", cfg.Arch.FinalNorm+".weight"
	for _, t := range transforms {
		if t.Unties() && changed.TieEmbeddings {
			changed.TieEmbeddings = false
			out[head] = slices.Clone(out[embedding])
		}
		t.Embedding(&model.Param{Rows: cfg.Vocab, Cols: cfg.Hidden, Data: out[embedding]})
		if !changed.TieEmbeddings {
			t.Head(&model.Param{Rows: cfg.Vocab, Cols: cfg.Hidden, Data: out[head]}, out[norm])
		}
		t.FinalNorm(out[norm])
		for layer := range cfg.Layers {
			prefix := fmt.Sprintf("%s%d.", cfg.Arch.Layers, layer)
			p := model.Params{}
			for _, e := range model.Tensors(cfg) {
				if e.Layer != layer {
					continue
				}
				rows := 1
				if len(e.Shape) == 2 {
					rows = e.Shape[0]
				}
				p[strings.TrimPrefix(e.Name, prefix)] = &model.Param{Rows: rows, Cols: int(e.Elements()) / rows, Data: out[e.Name]}
			}
			t.Block(layer, p)
		}
	}
	return out, &changed
}
