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
	detail := fmt.Sprintf("%d tensors of the source, %d left out on purpose", len(v.manifest.Sources), len(v.manifest.Omitted))
	if v.source == nil {
		detail += ", as the manifest says (--base compares)"
	}
	v.item(ItemOrigin, detail, bad)
}

// transformed names the tensors that the recipe may have changed beside rounding:
// transforms rewrite every tensor of the model.
func (v *verifier) transformed() map[string]bool {
	if r := v.recipe(); r != nil && r.Rotation.IsZero() && r.Rope.IsZero() && r.Smoothing.IsZero() {
		return nil
	}
	names := map[string]bool{}
	for _, e := range model.Tensors(v.config) {
		names[e.Name] = true
	}
	return names
}

// recipe is that of the manifest. One of another version may not decode: nil, and nothing is
// known, as if it had transforms.
func (v *verifier) recipe() *recipe.Recipe {
	r, err := recipe.Decode(ManifestPath+" recipe", []byte(v.manifest.Recipe))
	if err != nil {
		return nil
	}
	return r
}

// sameFigure is how far a figure of the manifest may be from the one computed
// again: float64 sums over the same terms in another order, of at most 2^30
// terms, differ by less than 2^30·2^-53 of themselves.
const sameFigure = 0x1p-23

// against compares with the source.
func (v *verifier) against(ctx context.Context) error {
	if v.source == nil || v.manifest == nil {
		return nil // a lack of the manifest is told by hashes
	}
	bad, err := v.sameSource(ctx)
	if err != nil {
		return err
	}
	detail := ""
	if len(bad) == 0 {
		if detail, bad, err = v.errors(ctx); err != nil {
			return err
		}
	}
	v.item(ItemSource, fmt.Sprintf("the hashes of %d tensors are the manifest's; ", len(v.manifest.Sources))+detail, bad)
	return nil
}

// sameSource holds every tensor of the source, whatever became of it, to the hash that
// the manifest has. Its error is that of the context.
func (v *verifier) sameSource(ctx context.Context) (bad []string, err error) {
	if len(v.manifest.Sources) == 0 {
		return []string{ManifestPath + ": found no hashes of a source, wanted those to compare with (what was converted from another program's checkpoint has none: verify it without --base)"}, nil
	}
	shapes := map[string][]int{}
	for _, e := range model.Tensors(v.config) {
		shapes[e.Name] = e.Shape
	}
	for _, name := range slices.Sorted(maps.Keys(v.manifest.Sources)) {
		got, err := hashTensor(ctx, v.source, name)
		if err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		if want := v.manifest.Sources[name]; got != want {
			bad = append(bad, fmt.Sprintf("%s of the source: found sha256 %s, wanted %s, as the manifest says: another model", name, got, want))
		}
		info, err := v.source.Info(name)
		if want, known := shapes[name]; err == nil && known && !slices.Equal(info.Shape, want) {
			bad = append(bad, fmt.Sprintf("%s of the source: found shape %v, wanted %v, as config.json says", name, info.Shape, want))
		}
	}
	for _, name := range v.source.Names() {
		if _, named := v.manifest.Sources[name]; !named && !slices.Contains(v.manifest.Omitted, name) {
			bad = append(bad, fmt.Sprintf("%s of the source: found a tensor that the manifest does not name, wanted none: another model", name))
		}
	}
	return bad, nil
}

// errors computes the rounding error of every linear again, where it is the source's weight
// that was rounded: not one that was transformed, or fitted to the full-precision model.
// err is that of the context.
func (v *verifier) errors(ctx context.Context) (detail string, bad []string, err error) {
	r := v.recipe()
	if v.transformed() != nil || r.Weights.Rounding == recipe.GPTQ && r.Weights.Target == recipe.FullPrecision {
		return "the weights were changed before they were rounded, so that errors are not computed again", nil, nil
	}
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
		checked++
		if e := math.Sqrt(sse / energy); e > worst {
			worst, worstName = e, layer.Name
		}
		if math.Abs(energy-layer.Energy) > sameFigure*energy {
			bad = append(bad, fmt.Sprintf("%s: found a sum of squares of %g, wanted %g, as the manifest says", layer.Name, energy, layer.Energy))
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
