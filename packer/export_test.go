package packer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/tensor"

	"github.com/google/go-cmp/cmp"
)

func TestExport(t *testing.T) {
	const layer = "model.layers.1.mlp.down_proj"
	for _, c := range []struct {
		name          string
		hidden, inter int
		tied          bool
		scheme        Scheme
		grid          Grid
		declares      Scheme
		group         int
		rounds        Grid
		variant       bool
	}{
		{"w4a8 lut", 128, 256, true, W4A8, GridLUT, W4A8, 128, GridLUT, true},
		{"w4a8 exact", 128, 256, false, W4A8, GridExact, W4A8, 128, GridExact, true},
		{"w4a8 falls to group 64", 192, 256, true, W4A8, GridLUT, W4A16, 64, GridWeightOnly, false},
		{"w4a16", 128, 160, true, W4A16, GridWeightOnly, W4A16, 32, GridWeightOnly, false},
		{"fp8", 64, 72, false, FP8, 0, FP8, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := tiny(t, c.hidden, c.inter, c.tied).write(t)
			before := snapshot(t, src)
			r := open(t, src)
			out := filepath.Join(t.TempDir(), "out")
			o := options(t, r, c.scheme)
			o.Int4.Grid = c.grid
			var last, total int64
			o.Progress = func(done, all int64, l *Layer) {
				if done <= last || l.SNR == nil || *l.SNR < 10 {
					t.Errorf("progress %d after %d, layer %+v", done, last, l)
				}
				last, total = done, all
			}
			rep, err := Export(context.Background(), r, out, o)
			if err != nil {
				t.Fatal(err)
			}
			if last != total || len(rep.Layers) != 14 || rep.Scheme != c.declares || rep.Group != c.group || rep.Grid != c.rounds || rep.BytesOut >= rep.BytesIn {
				t.Errorf("progress %d of %d, report %+v", last, total, rep)
			}
			demandOK(t, out)
			if !maps.Equal(before, snapshot(t, src)) {
				t.Error("source changed")
			}

			written := snapshot(t, out)
			if _, ok := written[weightOnlyPath]; ok != c.variant {
				t.Errorf("w4a16/config.json: %v", ok)
			}
			if _, ok := written["model.safetensors.index.json"]; !ok || written["tokenizer.json"] != "{}" {
				t.Error("index or tokenizer missing")
			}
			if m, err := ReadManifest(out); err != nil || m.Grid != c.rounds {
				t.Errorf("manifest %v, grid %s, wanted %s", err, m.Grid, c.rounds)
			}
			o.Int4.Grid = c.rounds
			checkDecoded(t, r, out, layer, o.Int4, c.declares, c.group)

			o.Int4.Grid = c.grid
			again := filepath.Join(t.TempDir(), "again")
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			o.Progress = nil
			if _, err := Export(context.Background(), r, again, o); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(written, snapshot(t, again)) {
				t.Error("another number of workers wrote other bytes")
			}
		})
	}
}

// checkDecoded demands that what is read back has the values of the rounding.
func checkDecoded(t *testing.T, r *checkpoint.Reader, out, layer string, o Int4Options, s Scheme, group int) {
	t.Helper()
	w, err := r.Matrix(layer + ".weight")
	if err != nil {
		t.Fatal(err)
	}
	var want Weight
	if s == FP8 {
		want, _, err = QuantizeFP8(w)
	} else {
		o.GroupSize, o.FP8Activations = group, s == W4A8
		want, _, err = QuantizeInt4(w, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	rr := open(t, out)
	q, err := ParseQuantizationConfig(rr.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadWeight(rr, layer, q)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, got) {
		t.Error("what is read back is not what was rounded")
	}
	if head, err := ReadWeight(rr, "lm_head", q); head != nil || err != nil {
		t.Errorf("lm_head: %v, %v", head, err)
	}
}

func TestExportSomeLinears(t *testing.T) {
	r := open(t, tiny(t, 128, 128, true).write(t))
	o := options(t, r, W4A8)
	for _, layer := range []string{"0", "1"} {
		for _, m := range []string{"gate_proj", "up_proj", "down_proj"} {
			o.Linears = append(o.Linears, "model.layers."+layer+".mlp."+m)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	rep, err := Export(context.Background(), r, out, o)
	if err != nil {
		t.Fatal(err)
	}
	demandOK(t, out)
	if len(rep.Layers) != 6 || len(rep.Ignored) != 9 || !slices.Contains(rep.Ignored, "lm_head") {
		t.Errorf("%d layers, ignored %v", len(rep.Layers), rep.Ignored)
	}
}

// Finish sees the rounded weights and the configuration, and its files are part of the
// output, in the place of those of the same path; its error leaves no output.
func TestExportFinish(t *testing.T) {
	r := open(t, tiny(t, 128, 128, true).write(t))
	o := options(t, r, W4A8)
	sidecar := func(mode AttentionMode, layers int) []byte {
		data, err := EncodeSidecar(&Sidecar{Plan: &AttentionPlan{Layers: slices.Repeat([]PlannedLayer{{Mode: mode}}, layers)}})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	o.Files = map[string][]byte{SidecarPath: sidecar(AttentionBF16, 2), "note.txt": []byte("kept")}
	o.Finish = func(_ context.Context, written *checkpoint.Reader) (map[string][]byte, error) {
		q, err := ParseQuantizationConfig(written.ConfigJSON())
		if err != nil {
			return nil, err
		}
		if _, err := ReadWeight(written, "model.layers.0.mlp.up_proj", q); err != nil {
			return nil, err
		}
		return map[string][]byte{SidecarPath: sidecar(AttentionInt8, 2)}, nil
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Export(context.Background(), r, out, o); err != nil {
		t.Fatal(err)
	}
	demandOK(t, out)
	s, err := ReadSidecar(out)
	if err != nil || s.Plan.Layers[1].Mode != AttentionInt8 || snapshot(t, out)["note.txt"] != "kept" {
		t.Errorf("%+v, %v", s, err)
	}

	// A plan of another model is a fault of the checkpoint.
	o.Finish = func(context.Context, *checkpoint.Reader) (map[string][]byte, error) {
		return map[string][]byte{SidecarPath: sidecar(AttentionFP8, 3)}, nil
	}
	longer := filepath.Join(t.TempDir(), "out")
	if _, err := Export(context.Background(), r, longer, o); err != nil {
		t.Fatal(err)
	}
	v := mustVerify(t, longer)
	if i := slices.IndexFunc(v.Checks, func(c Check) bool { return !c.OK }); i < 0 || v.Checks[i].Item != ItemAttention || !strings.Contains(v.Checks[i].Detail, "3 layers, wanted 2") {
		t.Errorf("%+v", v.Checks)
	}

	failed := errors.New("no plan")
	o.Finish = func(context.Context, *checkpoint.Reader) (map[string][]byte, error) { return nil, failed }
	none := filepath.Join(t.TempDir(), "out")
	if _, err := Export(context.Background(), r, none, o); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an output all the same: %v", err)
	}
}

// A head of its own beside tied embeddings is left out; tensors that the model
// does not know are kept.
func TestExportHeadAndUnknownTensors(t *testing.T) {
	c := tiny(t, 128, 128, true)
	c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"]
	c.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = bf16Part([]int{32}, func(i int) float32 { return float32(i) })
	c.poison("model.layers.0.self_attn.rotary_emb.inv_freq", 5, 0x7fc0) // nobody knows what it means
	r := open(t, c.write(t))
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Export(context.Background(), r, out, options(t, r, W4A8)); err != nil {
		t.Fatal(err)
	}
	demandOK(t, out)
	written := load(t, out)
	if _, ok := written.tensors["lm_head.weight"]; ok {
		t.Error("lm_head.weight written")
	}
	const kept = "model.layers.0.self_attn.rotary_emb.inv_freq"
	if !bytes.Equal(c.tensors[kept].data, written.tensors[kept].data) {
		t.Errorf("%s changed", kept)
	}
	m, err := ParseManifest(written.files[ManifestPath])
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Sources) != len(c.tensors)-1 || len(m.Tensors) != len(written.tensors) || !slices.Equal(m.Omitted, []string{"lm_head.weight"}) || m.Recipe != "scheme: test\n" {
		t.Errorf("manifest: %d sources, %d tensors, omitted %v, recipe %q", len(m.Sources), len(m.Tensors), m.Omitted, m.Recipe)
	}
}

var errRounding = errors.New("rounding failed")

// poisoned is a model with biases in which one BF16 is no number.
func poisoned(tied bool, name string, i int, bits uint16) func(t *testing.T) *contents {
	return func(t *testing.T) *contents {
		c := tiny(t, 128, 256, tied)
		c.biases()
		c.poison(name, i, bits)
		return c
	}
}

func TestExportLeavesNothingBehind(t *testing.T) {
	plain := func(t *testing.T) *contents { return tiny(t, 128, 256, true) }
	for _, c := range []struct {
		name   string
		source func(t *testing.T) *contents
		change func(o *ExportOptions, cancel func())
		want   error
		says   string
	}{
		{"NaN weight", func(t *testing.T) *contents {
			c := plain(t)
			c.tensors["model.layers.1.mlp.up_proj.weight"] = bf16Part([]int{256, 128}, func(i int) float32 {
				if i == 300 {
					return float32(math.NaN())
				}
				return 1
			})
			return c
		}, nil, checkpoint.ErrInvalid, "model.layers.1.mlp.up_proj: weight[2, 44]"},
		{"missing tensor", func(t *testing.T) *contents {
			c := plain(t)
			delete(c.tensors, "model.norm.weight")
			return c
		}, nil, checkpoint.ErrInvalid, "model.norm.weight"},
		{"wrong shape", func(t *testing.T) *contents {
			c := plain(t)
			c.tensors["model.layers.0.mlp.up_proj.weight"] = bf16Part([]int{128, 256}, func(int) float32 { return 1 })
			return c
		}, nil, checkpoint.ErrInvalid, "model.layers.0.mlp.up_proj.weight"},
		{"already quantized", func(t *testing.T) *contents {
			c := plain(t)
			c.files["config.json"], _ = WithQuantizationConfig(c.files["config.json"], FP8.Config(0, nil))
			return c
		}, nil, checkpoint.ErrInvalid, "already quantized"},
		{
			"group 128 does not divide 192", func(t *testing.T) *contents { return tiny(t, 192, 256, true) },
			func(o *ExportOptions, _ func()) { o.Int4.GroupSize = 128 }, ErrOption, "use group_size: auto, which takes 64",
		},
		{"unknown linear", plain, func(o *ExportOptions, _ func()) { o.Linears = []string{"model.layers.7.mlp.up_proj"} }, ErrOption, "model.layers.7.mlp.up_proj"},
		{"no scheme", plain, func(o *ExportOptions, _ func()) { o.Scheme = 0 }, ErrOption, "w4a8, w4a16 or fp8"},
		{"no grid", plain, func(o *ExportOptions, _ func()) { o.Int4.Grid = 0 }, ErrOption, "lut, exact, weight-only"},
		{"cancelled in the middle", plain, func(o *ExportOptions, cancel func()) {
			o.Progress = func(done, total int64, _ *Layer) {
				if done > total/2 {
					cancel()
				}
			}
		}, context.Canceled, "canceled"},
		{"cancelled at the last layer", plain, func(o *ExportOptions, cancel func()) {
			o.Progress = func(done, total int64, _ *Layer) {
				if done == total {
					cancel()
				}
			}
		}, context.Canceled, "canceled"},
		{"rounding fails", plain, func(o *ExportOptions, _ func()) {
			o.Quantize = func(_ context.Context, module string, w tensor.Matrix, i Int4Options) (Weight, Layer, error) {
				if strings.Contains(module, "layers.1.self_attn.o_proj") {
					return nil, Layer{}, errRounding
				}
				q, r, err := QuantizeInt4(w, i)
				return q, r.Layer(), err
			}
		}, errRounding, "model.layers.1.self_attn.o_proj: rounding failed"},
		{"rounding gives another shape", plain, func(o *ExportOptions, _ func()) {
			o.Quantize = func(_ context.Context, _ string, w tensor.Matrix, i Int4Options) (Weight, Layer, error) {
				q, r, err := QuantizeInt4(w.RowRange(0, 64), i)
				return q, r.Layer(), err
			}
		}, ErrInvalid, "64x128"},
		{"layers that config.json does not count", func(t *testing.T) *contents {
			c := plain(t)
			c.replace(configPath, `"num_hidden_layers": 2`, `"num_hidden_layers": 1`)
			return c
		}, nil, checkpoint.ErrInvalid, "correct num_hidden_layers in config.json"},
		{"bias that config.json denies", func(t *testing.T) *contents {
			c := plain(t)
			c.tensors["model.layers.1.self_attn.q_proj.bias"] = ones(128)
			return c
		}, nil, checkpoint.ErrInvalid, "attention_bias: true"},
		{"scale of a quantized weight", func(t *testing.T) *contents {
			c := plain(t)
			c.tensors["model.layers.1.mlp.up_proj.weight_scale"] = ones(256, 1)
			return c
		}, nil, ErrInvalid, "model.layers.1.mlp.up_proj.weight_scale"},
		{"packed head", func(t *testing.T) *contents {
			c := plain(t)
			c.tensors["lm_head.weight_packed"] = ones(2, 2)
			return c
		}, nil, ErrInvalid, "lm_head.weight_packed"},
		{"NaN in the embedding", poisoned(true, "model.embed_tokens.weight", 300, 0x7fc0), nil, checkpoint.ErrInvalid, "NaN at element 300 (row 2, column 44)"},
		{"infinity in a norm", poisoned(true, "model.layers.1.post_attention_layernorm.weight", 3, 0x7f80), nil, checkpoint.ErrInvalid, "post_attention_layernorm.weight"},
		{"infinity in the last norm", poisoned(true, "model.norm.weight", 3, 0xff80), nil, checkpoint.ErrInvalid, "-Inf at element 3"},
		{"NaN in a bias", poisoned(true, "model.layers.0.self_attn.q_proj.bias", 3, 0xffff), nil, checkpoint.ErrInvalid, "q_proj.bias"},
		{"NaN in the head", poisoned(false, "lm_head.weight", 0, 0x7fc0), nil, checkpoint.ErrInvalid, "lm_head.weight"},
		{"NaN in an ignored linear", poisoned(true, "model.layers.0.mlp.down_proj.weight", 9, 0x7fc0), func(o *ExportOptions, _ func()) {
			o.Linears = []string{"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"}
		}, checkpoint.ErrInvalid, "model.layers.0.mlp.down_proj.weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, c.source(t).write(t))
			parent := t.TempDir()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var o ExportOptions
			if c.want == nil {
				t.Fatal("no wanted error")
			}
			o = options(t, r, W4A8)
			if c.change != nil {
				c.change(&o, cancel)
			}
			rep, err := Export(ctx, r, filepath.Join(parent, "out"), o)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || rep != nil {
				t.Errorf("error %v, report %v", err, rep)
			}
			left, rerr := os.ReadDir(parent)
			if rerr != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, rerr)
			}
		})
	}
}

func TestExportIntoFullDirectory(t *testing.T) {
	r := open(t, tiny(t, 128, 128, true).write(t))
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "mine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(context.Background(), r, out, options(t, r, W4A8)); !errors.Is(err, checkpoint.ErrOutput) {
		t.Errorf("error %v", err)
	}
	if d := cmp.Diff(map[string]string{"mine": "x"}, snapshot(t, out)); d != "" {
		t.Errorf("directory changed: %s", d)
	}
}
