package packer

import (
	"bytes"
	"path/filepath"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
)

// The hash of every tensor of the source is compared, also of those that a recipe
// transformed, and what the manifest does not name is another model's.
func TestVerifySourceOfTransformed(t *testing.T) {
	t.Parallel()
	src := tiny(t, 128, 128, false)
	r := open(t, src.write(t))
	o := options(t, r, W4A8)
	var err error
	if o.Folded, err = model.Fold(o.Model, model.FromCheckpoint(r, modeltest.Compute()), modeltest.Compute(), negate{o.Model}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Export(t.Context(), r, out, o); err != nil {
		t.Fatal(err)
	}
	plain, err := Verify(t.Context(), out)
	if err != nil || !plain.OK || !says(plain, ItemOrigin, "as the manifest says (--base compares)") || says(plain, ItemSource, "") {
		t.Errorf("without the source: %v, %+v", err, plain)
	}
	const up, norm = "model.layers.0.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight"
	change := func(name string) func(source, out *contents) {
		return func(source, _ *contents) { source.tensors[name].data[0] ^= 1 }
	}
	manifest := func(edit func(m *Manifest)) func(source, out *contents) {
		return func(_, out *contents) {
			m, err := ParseManifest(out.files[ManifestPath])
			if err != nil {
				t.Fatal(err)
			}
			edit(m)
			if out.files[ManifestPath], err = m.encode(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		damage func(source, out *contents)
		says   string
	}{
		"the source":            {func(_, _ *contents) {}, ""},
		"another embedding":     {change("model.embed_tokens.weight"), "model.embed_tokens.weight of the source: found sha256"},
		"another head":          {change("lm_head.weight"), "lm_head.weight of the source: found sha256"},
		"another norm":          {change(norm), norm + " of the source: found sha256"},
		"another linear":        {change(up), up + " of the source: found sha256"},
		"a tensor too few":      {func(source, _ *contents) { delete(source.tensors, norm) }, norm},
		"a tensor too many":     {func(source, _ *contents) { source.tensors["more"] = ones(2) }, "more of the source: found a tensor that the manifest does not name"},
		"another shape":         {func(source, _ *contents) { p := source.tensors[up]; p.shape = []int{64, 256}; source.tensors[up] = p }, up + " of the source: found shape [64 256], wanted [128 128]"},
		"a manifest without it": {manifest(func(m *Manifest) { delete(m.Sources, norm) }), norm + " of the source: found a tensor that the manifest does not name"},
		"a manifest of nothing": {manifest(func(m *Manifest) { clear(m.Sources) }), "found no hashes of a source"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, made := &contents{map[string]part{}, src.files}, load(t, out)
			for name, p := range src.tensors {
				p.data = bytes.Clone(p.data)
				source.tensors[name] = p
			}
			c.damage(source, made)
			v, err := VerifyAgainst(t.Context(), made.write(t), open(t, source.write(t)))
			if err != nil {
				t.Fatal(err)
			}
			if c.says == "" {
				if !v.OK || !says(v, ItemSource, "the hashes of 21 tensors are the manifest's; the weights were changed before") {
					t.Errorf("%+v", v)
				}
			} else if v.OK || !fails(v, ItemSource, c.says) {
				t.Errorf("%+v", v)
			}
		})
	}
}
