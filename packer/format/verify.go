package format

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/packer"
)

// The items that Verify adds to those of [packer.VerifyFiles].
const (
	itemStructure = packer.ItemStructure
	itemConfig    = packer.ItemConfig
	itemIgnore    = packer.ItemIgnore
	itemNames     = packer.ItemNames
	itemFinite    = packer.ItemFinite
	itemWeights   = "weights" // every packed linear unpacks: dtypes, shapes, scales, zero points
	itemMerged    = "merged"  // modelopt: merged layers share their scalars, the others have pre_quant_scale
)

// Verify checks a checkpoint in any of the formats from its bytes, as
// [packer.VerifyAgainst] does for those of package packer; source may be nil. All faults
// are told; the error is that of the context.
func Verify(ctx context.Context, r, source *checkpoint.Reader) (*packer.Verification, error) {
	v := &verifier{r: r}
	v.item(itemStructure, fmt.Sprintf("%d tensors in %d shards", len(r.Names()), len(r.Shards())), nil)
	var config *model.Config
	src, err := Open(r)
	if err != nil {
		v.item(itemConfig, "", []string{err.Error()})
	} else {
		config = src.Model
		var bad []string
		if src.quant != nil {
			bad = src.quant.Faults()
		}
		v.item(itemConfig, fmt.Sprintf("%s, %s, %d linears", src.Format.Name(), summary(src.Format), len(src.Quantized)), bad)
		if src.quant != nil {
			v.ignored(src)
		}
		v.names(src)
		if err := v.finite(ctx, src); err != nil {
			return nil, err
		}
		if err := v.weights(ctx, src); err != nil {
			return nil, err
		}
	}
	out, err := packer.VerifyFiles(ctx, r, config, source)
	if err != nil {
		return nil, err
	}
	out.Checks = append(v.checks, out.Checks...)
	for _, c := range out.Checks {
		out.OK = out.OK && c.OK
	}
	return out, nil
}

type verifier struct {
	r      *checkpoint.Reader
	checks []packer.Check
}

func (v *verifier) item(name, detail string, bad []string) {
	if len(bad) == 0 {
		v.checks = append(v.checks, packer.Check{Item: name, OK: true, Detail: detail})
	}
	for _, b := range bad {
		v.checks = append(v.checks, packer.Check{Item: name, Detail: b})
	}
}

// ignored demands that compressed-tensors' targets and ignore name the packed linears and
// no other, no router and no head.
func (v *verifier) ignored(src *Source) {
	var bad []string
	packed := map[string]bool{src.Model.Arch.Head: false}
	for _, e := range model.Tensors(src.Model) {
		if e.Kind == model.KindLinear || e.Kind == model.KindRouter {
			packed[e.Module] = false
		}
	}
	for _, l := range src.Quantized {
		packed[l.Name] = true
	}
	for _, module := range slices.Sorted(maps.Keys(packed)) {
		s, err := src.quant.Scheme(module)
		switch {
		case err != nil:
			bad = append(bad, module+": "+err.Error())
		case s == nil && packed[module]:
			bad = append(bad, module+": found quantized tensors, wanted none, as config.json ignores it")
		case s != nil && !packed[module]:
			bad = append(bad, "quantization_config.ignore: "+module+" is missing, but its weight is not quantized")
		}
	}
	v.item(itemIgnore, fmt.Sprintf("%d linears quantized", len(src.Quantized)), bad)
}

// names demands every tensor of the model, and of the packed linears no weight
// beside the packed one.
func (v *verifier) names(src *Source) {
	var bad []string
	packed := map[string]packer.LinearShape{}
	for _, l := range src.Quantized {
		packed[l.Name] = l
	}
	known := map[string]bool{}
	want := func(name string) {
		known[name] = true
		if !v.r.Has(name) {
			bad = append(bad, name+": found no such tensor, wanted it")
		}
	}
	for _, e := range model.Tensors(src.Model) {
		l, quantized := packed[e.Module]
		if e.Kind != model.KindLinear || !quantized {
			want(e.Name)
			continue
		}
		for _, field := range src.Format.Fields(l.N, l.K) {
			if name := l.Name + field.Suffix; !field.Optional {
				want(name)
			} else {
				known[name] = true
			}
		}
		if !known[e.Name] && v.r.Has(e.Name) {
			known[e.Name] = true
			bad = append(bad, e.Name+": found an unpacked weight beside the packed one, wanted none")
		}
	}
	for _, err := range model.Strays(src.Model, v.r.Names()) {
		bad = append(bad, err.Error())
	}
	if head := src.Model.Arch.Head + ".weight"; src.Model.TieEmbeddings && v.r.Has(head) {
		known[head] = true
		bad = append(bad, head+": found a head beside tied embeddings, wanted none")
	}
	for layer := range src.Model.Layers {
		k, val := packer.CacheScaleNames(src.Model, layer)
		for _, name := range []string{k, val} {
			known[name], known[modeloptCacheName(name)] = true, true
		}
	}
	for _, name := range v.r.Names() {
		if !known[name] && src.Manifest != nil && src.Manifest.Sources[name] == "" {
			bad = append(bad, name+": found a tensor that neither the model nor the source has, wanted none")
		}
	}
	v.item(itemNames, "every tensor of the model, and nothing else", bad)
}

// finite reads what stays in full precision.
func (v *verifier) finite(ctx context.Context, src *Source) error {
	var bad []string
	for _, name := range src.fullPrecision() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !v.r.Has(name) {
			continue // told by names
		}
		if err := v.r.Finite(name); err != nil {
			bad = append(bad, err.Error())
		}
	}
	v.item(itemFinite, "no NaN or infinity in full precision", bad)
	return nil
}

// weights unpacks every linear, which checks dtypes, shapes, scales and zero
// points.
func (v *verifier) weights(ctx context.Context, src *Source) error {
	var bad, merged []string
	first := map[string]*StaticWeight{}
	for _, l := range src.Quantized {
		if err := ctx.Err(); err != nil {
			return err
		}
		w, err := src.Read(l)
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		s, ok := w.(*StaticWeight)
		if !ok {
			continue
		}
		layer, fused := packer.FusedName(l.Name)
		switch o := first[layer]; {
		case !fused && s.PreQuantScale == nil:
			merged = append(merged, l.Name+".pre_quant_scale: found none, wanted one (ones, if there is no smoothing)")
		case o == nil:
			s.Codes, s.Scales = nil, nil
			first[layer] = s
		case o.InputScale != s.InputScale || o.WeightScale2 != s.WeightScale2 || !bytes.Equal(o.PreQuantScale, s.PreQuantScale):
			merged = append(merged, fmt.Sprintf("%s: found input_scale %g, weight_scale_2 %g or pre_quant_scale unlike those of the layers it is merged with (%g, %g), wanted them equal",
				l.Name, s.InputScale, s.WeightScale2, o.InputScale, o.WeightScale2))
		}
	}
	v.item(itemWeights, "all unpack", bad)
	if src.Format == (W4A8AWQ{}) {
		v.item(itemMerged, "merged layers share their scalars", merged)
	}
	return nil
}
