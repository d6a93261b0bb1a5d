package packer

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// negate is a rotation by -1: every tensor that touches the residual stream
// changes its sign, which BF16 holds exactly.
type negate struct{ cfg *model.Config }

func (negate) Unties() bool                        { return true }
func (negate) Embedding(rows *model.Param)         { flip(rows) }
func (negate) Head(rows *model.Param, _ []float64) { flip(rows) }
func (negate) FinalNorm([]float64)                 {}
func (n negate) Block(_ int, p model.Params) {
	for _, l := range n.cfg.Arch.Linears {
		flip(p.Weight(l.Name))
	}
}

func flip(p *model.Param) {
	for i := range p.Data {
		p.Data[i] = -p.Data[i]
	}
}

func TestExportOfFoldedWeights(t *testing.T) {
	for _, tied := range []bool{true, false} {
		src := tiny(t, 128, 256, tied)
		dir := src.write(t)
		r := open(t, dir)
		o := options(t, r, W4A8)
		stored := model.FromCheckpoint(r, modeltest.Compute())
		var err error
		if o.Folded, err = model.Fold(o.Model, stored, modeltest.Compute(), negate{o.Model}); err != nil {
			t.Fatal(err)
		}
		o.Linears = slices.DeleteFunc(linearsOf(o.Model), func(m string) bool { return m == "model.layers.0.mlp.down_proj" })
		o.Files = map[string][]byte{"quantize/other.txt": []byte("sidecar"), "tokenizer.json": []byte("replaced")}
		out := filepath.Join(t.TempDir(), "out")
		rep, err := Export(context.Background(), r, out, o)
		if err != nil {
			t.Fatal(err)
		}
		demandOK(t, out)
		got := load(t, out)
		cfg, err := model.ParseConfig(got.files[configPath])
		if err != nil || cfg.TieEmbeddings {
			t.Fatalf("tied %v, %v", cfg.TieEmbeddings, err)
		}
		if again, err := model.ParseConfig(got.files[weightOnlyPath]); err != nil || again.TieEmbeddings {
			t.Errorf("w4a16: tied, %v", err)
		}
		if untold := !slices.ContainsFunc(rep.Notes, func(n string) bool { return strings.Contains(n, "unties") }); untold == tied {
			t.Errorf("tied %v: notes %q", tied, rep.Notes)
		}
		head := "lm_head.weight"
		if tied {
			head = "model.embed_tokens.weight"
		}
		for name, from := range map[string]string{
			"model.embed_tokens.weight":           "model.embed_tokens.weight",
			"lm_head.weight":                      head,
			"model.layers.0.mlp.down_proj.weight": "model.layers.0.mlp.down_proj.weight",
		} {
			if want := flipped(src.tensors[from].data); !bytes.Equal(got.tensors[name].data, want) {
				t.Errorf("tied %v: %s is not the negative of %s", tied, name, from)
			}
		}
		if name := "model.layers.1.input_layernorm.weight"; !bytes.Equal(got.tensors[name].data, src.tensors[name].data) {
			t.Errorf("%s changed", name)
		}
		if string(got.files["tokenizer.json"]) != "replaced" {
			t.Error("a further file does not replace the source's")
		}
	}
}

func flipped(bf16 []byte) []byte {
	x := make([]float32, len(bf16)/2)
	if err := tensor.Decode(x, bf16, tensor.BF16); err != nil {
		panic(err)
	}
	for i := range x {
		x[i] = -x[i]
	}
	out := make([]byte, len(bf16))
	if err := tensor.Encode(out, x, tensor.BF16); err != nil {
		panic(err)
	}
	return out
}

func linearsOf(cfg *model.Config) []string {
	var names []string
	for _, t := range model.Tensors(cfg) {
		if t.Kind == model.KindLinear {
			names = append(names, t.Module)
		}
	}
	return names
}

// grow leaves the range of every stored dtype in the tensor of that name.
type grow struct {
	negate
	name string
}

func (g grow) Embedding(rows *model.Param) {
	if g.name == "model.embed_tokens.weight" {
		for i := range rows.Data {
			rows.Data[i] *= 1e45
		}
	}
}

func (g grow) FinalNorm(x []float64) {
	if g.name == "model.norm.weight" {
		x[5] = -1e39
	}
}

func (g grow) Block(layer int, p model.Params) {
	if g.name == "model.layers.1.input_layernorm.weight" && layer == 1 {
		p["input_layernorm.weight"].Data[3] = 1e39
	}
}

// What a transform makes can be beyond what it is stored as.
func TestExportOfFoldedWeightsBeyondTheirRange(t *testing.T) {
	for _, name := range []string{"model.embed_tokens.weight", "model.norm.weight", "model.layers.1.input_layernorm.weight"} {
		r := open(t, tiny(t, 128, 128, true).write(t))
		o := options(t, r, W4A8)
		var err error
		if o.Folded, err = model.Fold(o.Model, model.FromCheckpoint(r, modeltest.Compute()), modeltest.Compute(), grow{negate{o.Model}, name}); err != nil {
			t.Fatal(err)
		}
		_, err = Export(context.Background(), r, filepath.Join(t.TempDir(), "out"), o)
		if !errors.Is(err, checkpoint.ErrInvalid) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "Inf at element") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
