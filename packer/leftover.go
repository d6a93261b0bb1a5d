package packer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
)

// remains are what formats store beside or in the place of P.weight. Beside a
// weight that passes for full precision they say that it is none.
var remains = []string{
	packedSuffix, scaleSuffix, shapeSuffix, ".weight_scale_inv", ".weight_scale_2", ".weight_zero_point", ".weight_g_idx",
	".qweight", ".qzeros", ".scales", ".g_idx", ".pre_quant_scale",
}

// runtimeScales are figures of a runtime's activations and cache: the output has
// its own, or none.
var runtimeScales = []string{".input_scale", ".k_scale", ".v_scale"}

// leftovers refuses parts of quantized weights in a source that says it is not
// quantized, and gives the scales of activations that are left out.
func leftovers(c *model.Config, names []string) (omit map[string]bool, err error) {
	modules := map[string]bool{c.Arch.Head: true}
	for _, e := range model.Tensors(c) {
		modules[e.Module] = true
	}
	omit = map[string]bool{}
	for _, name := range names {
		module, suffix := name, ""
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			module, suffix = name[:dot], name[dot:]
		}
		switch {
		case slices.Contains(runtimeScales, suffix) && (modules[module] || c.LayerOf(name) >= 0):
			omit[name] = true
		case slices.Contains(remains, suffix) && modules[module]:
			return nil, &fault.Error{
				Err: ErrInvalid, Where: name, Found: "a part of a quantized weight in a checkpoint without quantization_config",
				Wanted: "bf16, fp16 or fp32 weights alone", Hint: "start from the original model",
			}
		}
	}
	return omit, nil
}

// remarks tells what becomes of tensors that the model does not have.
func (p *exportPlan) remarks(dropped []string) {
	if len(dropped) > 0 {
		p.notes = append(p.notes, fmt.Sprintf("%s of a runtime's activations or cache left out: nothing in the output uses them", someOf(dropped)))
	}
	var unknown []string
	for _, name := range p.copies {
		// Old checkpoints have these tables, and runtimes skip them.
		if !p.known[name] && !strings.Contains(name, "rotary_emb.") {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		p.notes = append(p.notes, fmt.Sprintf("%s unknown to %s copied as they are: a runtime may refuse them (vLLM does)", someOf(unknown), p.arch))
	}
}

// someOf counts names and gives the first three.
func someOf(names []string) string {
	const most = 3
	noun, more := "tensors", ""
	if len(names) == 1 {
		noun = "tensor"
	}
	if len(names) > most {
		more = ", ..."
	}
	return fmt.Sprintf("%d %s (%s%s)", len(names), noun, strings.Join(names[:min(most, len(names))], ", "), more)
}

// remarkHead tells of a head that is left out beside tied embeddings and is not the
// embedding: whoever trained it untied loses it. It reads both where their hashes are
// not known, so a preview does not have it.
func (p *exportPlan) remarkHead(ctx context.Context, r *checkpoint.Reader, o *ExportOptions) error {
	head, embedding := o.Model.Arch.Head+weightSuffix, o.Model.Arch.Embedding+weightSuffix
	if !slices.Contains(p.omitted, head) {
		return nil
	}
	var err error
	same := o.Sources[head] != "" && o.Sources[head] == o.Sources[embedding]
	if !same {
		same, err = r.Same(ctx, head, embedding)
	}
	if err == nil && !same {
		p.notes = append([]string{head + " is left out, though it differs from the embedding: tie_word_embeddings is true in config.json; set it to false if the head is meant"}, p.notes...)
	}
	return err
}
