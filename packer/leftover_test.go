package packer

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What becomes of tensors that a model does not have is told, and the output is
// sound.
func TestExportTellsOfLeftovers(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(c *contents)
		omitted []string
		note    string // "": none of these
	}{
		{"nothing", func(*contents) {}, nil, ""},
		{"tables of old checkpoints", func(c *contents) { c.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ones(32) }, nil, ""},
		{"unknown tensors", func(c *contents) {
			for i := range 5 {
				c.tensors[fmt.Sprintf("extra.%d", i)] = ones(2)
			}
		}, nil, "5 tensors (extra.0, extra.1, extra.2, ...) unknown to LlamaForCausalLM copied as they are"},
		{"scales of a runtime", func(c *contents) {
			c.tensors["model.layers.0.self_attn.k_scale"] = ones(1)
			c.tensors["model.layers.1.self_attn.v_proj.v_scale"] = ones(1)
			c.tensors["model.layers.1.mlp.up_proj.input_scale"] = ones(1)
			c.tensors["vision.k_scale"] = ones(1) // not the model's
		}, []string{"model.layers.0.self_attn.k_scale", "model.layers.1.mlp.up_proj.input_scale", "model.layers.1.self_attn.v_proj.v_scale"}, "3 tensors (model.layers.0.self_attn.k_scale, "},
		{"the embedding as a head", func(c *contents) { c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"] }, []string{"lm_head.weight"}, ""},
		{"another head", func(c *contents) {
			c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"]
			c.poison("lm_head.weight", 96*128-1, 0x3f80)
		}, []string{"lm_head.weight"}, "lm_head.weight is left out, though it differs from the embedding"},
		{"a head of another shape", func(c *contents) {
			c.tensors["lm_head.weight"] = ones(48, 128)
		}, []string{"lm_head.weight"}, "differs from the embedding"},
	} {
		for _, hashed := range []bool{false, true} {
			if hashed && !strings.Contains(c.name, "head") {
				continue
			}
			t.Run(fmt.Sprintf("%s, hashes known: %v", c.name, hashed), func(t *testing.T) {
				made := tiny(t, 128, 128, true)
				c.change(made)
				r := open(t, made.write(t))
				o := options(t, r, W4A8)
				if hashed {
					var err error
					if o.Sources, err = r.Hashes(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				out := filepath.Join(t.TempDir(), "out")
				rep, err := Export(context.Background(), r, out, o)
				if err != nil {
					t.Fatal(err)
				}
				demandOK(t, out)
				m, err := ReadManifest(out)
				if err != nil || !slices.Equal(m.Omitted, c.omitted) && len(m.Omitted)+len(c.omitted) > 0 {
					t.Errorf("omitted %v, %v", m.Omitted, err)
				}
				notes := strings.Join(rep.Notes, "\n")
				told := strings.Contains(notes, "left out") || strings.Contains(notes, "unknown to")
				if told != (c.note != "") || !strings.Contains(notes, c.note) {
					t.Errorf("notes:\n%s\nwanted %q", notes, c.note)
				}
			})
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	made := tiny(t, 128, 128, true)
	made.tensors["lm_head.weight"] = made.tensors["model.embed_tokens.weight"]
	r := open(t, made.write(t))
	if _, err := r.Same(ctx, "lm_head.weight", "model.embed_tokens.weight"); err == nil {
		t.Error("cancelled, and compared all the same")
	}
}
