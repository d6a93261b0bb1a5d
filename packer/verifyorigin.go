package packer

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/recipe"
	"quantize/tensor"
)

// embeddings demands that config.json and the head agree, and that a rotation of
// the residual stream, which makes embedding and head different matrices, untied
// them.
func (v *verifier) embeddings() {
	var bad []string
	head := v.config.Arch.Head + weightSuffix
	switch {
	case v.config.TieEmbeddings && v.r.Has(head):
		bad = append(bad, head+": found a head beside tie_word_embeddings: true, wanted none (vLLM ignores it, transformers does not)")
	case !v.config.TieEmbeddings && !v.r.Has(head):
		bad = append(bad, head+": found no head beside tie_word_embeddings: false, wanted one")
	}
	if v.manifest != nil && v.config.TieEmbeddings {
		// A recipe of another version may not decode; then nothing is known.
		if r, err := recipe.Decode(ManifestPath+" recipe", []byte(v.manifest.Recipe)); err == nil && r.Rotation.Residual != recipe.NoTurn {
			bad = append(bad, fmt.Sprintf("tie_word_embeddings: found true after rotation %s of the residual stream, wanted false and a head of its own", r.Rotation.Residual))
		}
	}
	v.item(ItemEmbeddings, fmt.Sprintf("tied: %v", v.config.TieEmbeddings), bad)
}

// origin accounts for every tensor of the source: it was copied or transformed,
// replaced by quantized ones, or left out on purpose.
func (v *verifier) origin() {
	if v.manifest == nil {
		return // told by hashes
	}
	var bad []string
	changed := v.transformed()
	for _, name := range slices.Sorted(maps.Keys(v.manifest.Sources)) {
		module, isWeight := strings.CutSuffix(name, weightSuffix)
		_, quantized := v.quantity[module]
		replaced := quantized && isWeight
		source, written := v.manifest.Sources[name], v.manifest.Tensors[name]
		if v.r.Has(name) && !replaced && !changed[name] && written != "" && written != source { // one that is not listed is told by hashes
			bad = append(bad, fmt.Sprintf("%s: found sha256 %s, wanted %s, that of the source, as nothing but a copy was made", name, written, source))
		}
		if !v.r.Has(name) && !replaced && !slices.Contains(v.manifest.Omitted, name) {
			bad = append(bad, name+": found a tensor of the source that is neither here nor quantized nor omitted, wanted it")
		}
	}
	v.item(ItemOrigin, fmt.Sprintf("%d tensors of the source, %d left out on purpose", len(v.manifest.Sources), len(v.manifest.Omitted)), bad)
}

// transformed names the tensors that the recipe may have changed beside rounding:
// transforms rewrite every tensor of the model. A recipe of another version may not
// decode; then nothing is known, as if it had transforms.
func (v *verifier) transformed() map[string]bool {
	r, err := recipe.Decode(ManifestPath+" recipe", []byte(v.manifest.Recipe))
	if err == nil && r.Rotation.IsZero() && r.Rope.IsZero() && r.Smoothing.IsZero() {
		return nil
	}
	names := map[string]bool{}
	for _, e := range model.Tensors(v.config) {
		names[e.Name] = true
	}
	return names
}

// sameFigure is how far a figure of the manifest may be from the one computed
// again: float64 sums over the same terms in another order, of at most 2^30
// terms, differ by less than 2^30·2^-53 of themselves.
const sameFigure = 0x1p-23

// against compares with the source.
func (v *verifier) against(ctx context.Context) error {
	if v.source == nil || v.manifest == nil {
		return nil
	}
	var bad []string
	var buf []byte
	var err error
	for _, name := range slices.Sorted(maps.Keys(v.manifest.Sources)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if buf, err = v.source.Raw(name, buf); err != nil {
			bad = append(bad, err.Error())
		} else if got := sha256Hex(buf); got != v.manifest.Sources[name] {
			bad = append(bad, fmt.Sprintf("%s of the source: found sha256 %s, wanted %s, as the manifest says: another model", name, got, v.manifest.Sources[name]))
		}
	}
	detail := "hashes of the source"
	if len(bad) == 0 {
		var more []string
		if detail, more, err = v.errors(ctx); err != nil {
			return err
		}
		bad = append(bad, more...)
	}
	v.item(ItemSource, detail, bad)
	return nil
}

// errors computes the rounding error of every linear again. A weight that was
// transformed before it was rounded has another energy than the source's; nothing
// is known of its error then. err is that of the context.
func (v *verifier) errors(ctx context.Context) (detail string, bad []string, err error) {
	a := v.manifest.Grid.Arithmetic()
	checked, worst, worstName := 0, 0.0, ""
	for _, layer := range v.manifest.Layers {
		if err := ctx.Err(); err != nil {
			return "", nil, err
		}
		l, ok := v.quantity[layer.Name]
		if !ok || !l.intact {
			continue
		}
		sse, energy, err := v.rounding(l, a)
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		if math.Abs(energy-layer.Energy) > sameFigure*energy {
			continue
		}
		checked++
		if e := math.Sqrt(sse / energy); e > worst {
			worst, worstName = e, layer.Name
		}
		if math.Abs(sse-layer.SSE) > sameFigure*sse {
			bad = append(bad, fmt.Sprintf("%s: found a squared error of %g, wanted %g, as the manifest says", layer.Name, sse, layer.SSE))
		}
	}
	detail = fmt.Sprintf("the errors of %d of %d linears are the manifest's", checked, len(v.manifest.Layers))
	if checked > 0 {
		detail += fmt.Sprintf("; largest %.4f relative, %s", worst, worstName)
	}
	return detail, bad, nil
}

// rounding returns sum (w-w')^2 and sum w^2 of one linear.
func (v *verifier) rounding(l linear, a Arithmetic) (sse, energy float64, err error) {
	w, err := v.source.Matrix(l.Name + weightSuffix)
	if err != nil {
		return 0, 0, err
	}
	q, err := ReadWeight(v.r, l.Name, v.quant)
	if err != nil {
		return 0, 0, err
	}
	if w.Rows != l.N || w.Cols != l.K {
		return 0, 0, &fault.Error{Err: ErrInvalid, Where: l.Name + weightSuffix + " of the source", Found: fmt.Sprintf("%dx%d", w.Rows, w.Cols), Wanted: fmt.Sprintf("%dx%d", l.N, l.K)}
	}
	got := tensor.NewMatrix(l.N, l.K)
	q.Decode(got, a)
	for i, x := range w.Data {
		d := float64(x) - float64(got.Data[i])
		sse += float64(d * d)
		energy += float64(float64(x) * float64(x))
	}
	return sse, energy, nil
}
