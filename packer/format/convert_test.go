package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/tensor"
)

// files is a whole checkpoint in memory.
type files struct {
	tensors map[string]Part
	shapes  map[string][]int
	other   map[string][]byte
}

func open(t testing.TB, dir string) *checkpoint.Reader {
	t.Helper()
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // it was only read
	return r
}

func load(t testing.TB, dir string) *files {
	t.Helper()
	r := open(t, dir)
	f := &files{map[string]Part{}, map[string][]int{}, map[string][]byte{}}
	for _, name := range r.Names() {
		info, err := r.Info(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.Raw(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.tensors[name], f.shapes[name] = Part{info.DType, data}, info.Shape
	}
	for _, rel := range append(r.Files(), "config.json", "w4a16/config.json", "quantize_config.json", hfQuantFile, packer.ManifestPath) {
		if data, err := os.ReadFile(filepath.Join(dir, rel)); err == nil {
			f.other[rel] = data
		}
	}
	return f
}

func (f *files) write(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkpoint")
	var infos []checkpoint.Info
	for name, p := range f.tensors {
		infos = append(infos, checkpoint.Info{Name: name, DType: p.DType, Shape: f.shapes[name]})
	}
	w, err := checkpoint.Create(dir, infos, checkpoint.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range f.tensors {
		if err := w.Add(name, p.Data); err != nil {
			t.Fatal(err)
		}
	}
	for rel, data := range f.other {
		if err := w.File(rel, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (f *files) put(name string, d tensor.DType, data []byte, shape ...int) {
	f.tensors[name], f.shapes[name] = Part{d, data}, shape
}

func (f *files) clone() *files {
	out := &files{map[string]Part{}, maps.Clone(f.shapes), maps.Clone(f.other)}
	for name, p := range f.tensors {
		out.tensors[name] = Part{p.DType, bytes.Clone(p.Data)}
	}
	return out
}

func base(t testing.TB) (dir string, cfg *model.Config) {
	t.Helper()
	c := modeltest.Random(3, modeltest.Shape{
		Name: "base", Family: "qwen2", Hidden: 128, Intermediate: 256, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 64, Vocab: 96, Tied: true,
	})
	dir = t.TempDir()
	if err := c.Write(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, c.Parsed()
}

var exports sync.Map

// exported is a fresh compressed-tensors checkpoint, made once a scheme; down of
// layer 1 is left as it is.
func exported(t testing.TB, s packer.Scheme) *files {
	t.Helper()
	if made, ok := exports.Load(s); ok {
		return made.(*files).clone()
	}
	dir, cfg := base(t)
	o := packer.ExportOptions{Model: cfg, Scheme: s, Int4: packer.Int4Options{Grid: packer.GridLUT, Search: true}, Recipe: "test", Tool: "test"}
	for _, e := range model.Tensors(cfg) {
		if e.Kind == model.KindLinear && e.Module != "model.layers.1.mlp.down_proj" {
			o.Linears = append(o.Linears, e.Module)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := packer.Export(context.Background(), open(t, dir), out, o); err != nil {
		t.Fatal(err)
	}
	f := load(t, out)
	exports.Store(s, f)
	return f.clone()
}

func amax(string) (float32, error) { return 448, nil }

// convert converts, demands that Verify passes, and returns the directory.
func convert(t testing.TB, dir, to string) (string, *Report) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	rep, err := Convert(context.Background(), open(t, dir), out, Options{To: to, Tool: "test", InputAbsMax: amax})
	if err != nil {
		t.Fatalf("to %s: %v", to, err)
	}
	if v, err := Verify(t.Context(), open(t, out), nil); err != nil || !v.OK {
		text, _ := json.MarshalIndent(v, "", "  ")
		t.Fatalf("%s: %s", to, text)
	}
	return out, rep
}

// There and back again every tensor is what it was, byte for byte, whatever lay
// between.
func TestConvertThereAndBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scheme packer.Scheme
		path   []string
	}{
		{packer.W4A8, []string{"gptq", packer.QuantMethod}},
		{packer.W4A16, []string{"awq", packer.QuantMethod}},
		{packer.W4A16, []string{"gptq", "awq", "gptq", packer.QuantMethod}},
		{packer.W4A8, []string{"modelopt", packer.QuantMethod}},
		{packer.W4A8, []string{"modelopt", "awq", packer.QuantMethod}},
		{packer.FP8, []string{"modelopt", packer.QuantMethod}},
	} {
		t.Run(c.scheme.String()+" "+strings.Join(c.path, " "), func(t *testing.T) {
			t.Parallel()
			source := exported(t, c.scheme)
			dir := source.write(t)
			for _, to := range c.path {
				var rep *Report
				if dir, rep = convert(t, dir, to); rep.Layers != 13 || rep.To != to || rep.BytesOut == 0 {
					t.Errorf("%+v", rep)
				}
			}
			got := load(t, dir)
			if !slices.Equal(slices.Sorted(maps.Keys(got.tensors)), slices.Sorted(maps.Keys(source.tensors))) {
				t.Fatalf("tensors %q", slices.Sorted(maps.Keys(got.tensors)))
			}
			for name, p := range source.tensors {
				if q := got.tensors[name]; q.DType != p.DType || !bytes.Equal(q.Data, p.Data) || !slices.Equal(got.shapes[name], source.shapes[name]) {
					t.Errorf("%s changed", name)
				}
			}
			if string(got.other["tokenizer.json"]) != "{}" {
				t.Error("tokenizer lost")
			}
			// Through modelopt W4A8 stays W4A8, and its configuration is the one it had.
			same := c.scheme == packer.FP8 || c.path[len(c.path)-2] == "modelopt" || c.scheme == packer.W4A16
			if bytes.Equal(got.other["config.json"], source.other["config.json"]) != same {
				t.Errorf("config.json:\n%s", got.other["config.json"])
			}
			if v, err := packer.Verify(t.Context(), dir); err != nil || !v.OK {
				t.Errorf("packer.Verify: %v, %+v", err, v)
			}
		})
	}
}

// deepSeek is a checkpoint of FP8 in blocks.
func deepSeek(t *testing.T) *files {
	t.Helper()
	dir, cfg := base(t)
	f := load(t, dir)
	for _, e := range model.Tensors(cfg) {
		if e.Kind != model.KindLinear {
			continue
		}
		m := tensor.NewMatrix(e.Shape[0], e.Shape[1])
		if err := tensor.Decode(m.Data, f.tensors[e.Name].Data, f.tensors[e.Name].DType); err != nil {
			t.Fatal(err)
		}
		w, _, err := QuantizeFP8Block(m)
		if err != nil {
			t.Fatal(err)
		}
		delete(f.tensors, e.Name)
		for i, info := range Tensors(FP8Block{}, e.Module, w.N, w.K, mustPack(t, FP8Block{}, w)) {
			f.put(info.Name, info.DType, mustPack(t, FP8Block{}, w)[i].Data, info.Shape...)
		}
	}
	config, err := FP8Block{}.Files(f.other["config.json"], Description{Head: "lm_head"})
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(f.other, config)
	return f
}

// Blocks of FP8: DeepSeek's spelling, compressed-tensors' and back.
func TestConvertFP8Blocks(t *testing.T) {
	t.Parallel()
	f := deepSeek(t)
	there, _ := convert(t, f.write(t), packer.QuantMethod)
	if text := string(load(t, there).other["config.json"]); !strings.Contains(text, `"strategy": "block"`) || !strings.Contains(text, "float-quantized") {
		t.Error(text)
	}
	again, _ := convert(t, there, "fp8-block")
	if other := exported(t, packer.FP8).write(t); !InBlocks(open(t, there)) || InBlocks(open(t, again)) || InBlocks(open(t, other)) {
		t.Error("InBlocks holds for compressed-tensors' blocks alone")
	}
	got := load(t, again)
	for name, p := range f.tensors {
		if !bytes.Equal(got.tensors[name].Data, p.Data) {
			t.Errorf("%s changed", name)
		}
	}
	if !bytes.Equal(got.other["config.json"], f.other["config.json"]) {
		t.Errorf("config.json:\n%s", got.other["config.json"])
	}
}

// What is written beside the tensors.
func TestConvertConfigurations(t *testing.T) {
	t.Parallel()
	source := exported(t, packer.W4A8)
	dir := source.write(t)
	for to, want := range map[string]map[string][]string{
		"gptq": {
			"config.json":          {`"quant_method": "gptq"`, `"checkpoint_format": "gptq"`, `"desc_act": false`, `"sym": true`, `"group_size": 128`, `"-:^model\\.layers\\.1\\.mlp\\.down_proj$": {}`},
			"quantize_config.json": {`"bits": 4`, `"pack_dtype": "int32"`},
		},
		"awq": {"config.json": {`"quant_method": "awq"`, `"version": "gemm"`, `"zero_point": true`, `"model.layers.1.mlp.down_proj"`}},
		"modelopt": {hfQuantFile: {
			`"quant_algo": "W4A8_AWQ"`, `"group_size": 128`, `"has_zero_point": false`, `"pre_quant_scale": true`, `"kv_cache_quant_algo": null`, `"lm_head"`, `"model.layers.1.mlp.down_proj"`,
		}},
	} {
		out, _ := convert(t, dir, to)
		f := load(t, out)
		for file, texts := range want {
			for _, text := range texts {
				if !strings.Contains(string(f.other[file]), text) {
					t.Errorf("%s %s: no %s in\n%s", to, file, text, f.other[file])
				}
			}
		}
		if to == "modelopt" {
			if strings.Contains(string(f.other["config.json"]), "quantization_config") {
				t.Error("modelopt: quantization_config left in config.json")
			}
			for module, wanted := range map[string]bool{"self_attn.q_proj": false, "self_attn.o_proj": true, "mlp.up_proj": false, "mlp.down_proj": true} {
				if _, ok := f.tensors["model.layers.0."+module+".pre_quant_scale"]; ok != wanted {
					t.Errorf("pre_quant_scale of %s: %v", module, ok)
				}
			}
			if s := f.tensors["model.layers.0.mlp.up_proj.input_scale"]; !bytes.Equal(s.Data, floats([]float32{1})) {
				t.Errorf("input_scale % x", s.Data)
			}
		}
		m, err := packer.ParseManifest(f.other[packer.ManifestPath])
		if err != nil || len(m.Layers) != 13 || m.Recipe != "test" || m.Tool != "test" || len(m.Tensors) != len(f.tensors) {
			t.Errorf("%s manifest: %v, %+v", to, err, m)
		}
		if _, ok := f.other["w4a16/config.json"]; ok {
			t.Errorf("%s: the variant of compressed-tensors was copied", to)
		}
	}
}

func TestConvertRefuses(t *testing.T) {
	t.Parallel()
	const up = "model.layers.0.mlp.up_proj"
	small := func(f *files, module string) {
		binary.LittleEndian.PutUint16(f.tensors[module+".weight_scale"].Data, tensor.BF16Bits(0x1.02p-20))
	}
	for _, c := range []struct {
		name   string
		scheme packer.Scheme
		change func(f *files)
		to     string
		err    error
		says   []string
	}{
		{"its own format", packer.W4A8, nil, packer.QuantMethod, packer.ErrOption, []string{"another than"}},
		{"an unknown format", packer.W4A8, nil, "gguf", packer.ErrOption, []string{`"gguf"`, "gptq, awq, modelopt"}},
		{"FP8 to INT4", packer.FP8, nil, "gptq", ErrRepresent, []string{"FP8 with a scale per output channel, wanted INT4"}},
		{"FP8 rows to blocks", packer.FP8, nil, "fp8-block", ErrRepresent, []string{"blocks of 128"}},
		{"weight-only to W4A8", packer.W4A16, nil, "modelopt", ErrRepresent, []string{"weight-only INT4", "FP8 activations"}},
		{"scales that F16 has not, all told", packer.W4A8, func(f *files) { small(f, up); small(f, "model.layers.1.self_attn.o_proj") }, "gptq", ErrRepresent, []string{up, "self_attn.o_proj", "not exact in F16"}},
		{"the same for modelopt", packer.W4A8, func(f *files) { small(f, up) }, "modelopt", ErrRepresent, []string{up}},
		{"a missing scale", packer.W4A8, func(f *files) { delete(f.tensors, up+".weight_scale") }, "awq", checkpoint.ErrInvalid, []string{up + ".weight_scale"}},
		{"a negative scale", packer.W4A8, func(f *files) { f.tensors[up+".weight_scale"].Data[1] = 0xbf }, "awq", packer.ErrInvalid, []string{up, "finite positive"}},
		{"an infinite norm", packer.W4A8, func(f *files) { binary.LittleEndian.PutUint16(f.tensors["model.norm.weight"].Data[2:], 0x7f80) }, "awq", checkpoint.ErrInvalid, []string{"model.norm.weight", "+Inf at element 1"}},
		{"another weight_shape", packer.W4A8, func(f *files) { f.tensors[up+".weight_shape"].Data[0] = 1 }, "awq", packer.ErrInvalid, []string{"weight_shape"}},
		{"up without gate", packer.W4A8, func(f *files) {
			for _, s := range []string{".weight_packed", ".weight_scale", ".weight_shape"} {
				delete(f.tensors, up+s)
			}
			f.put(up+".weight", tensor.BF16, make([]byte, 2*256*128), 256, 128)
		}, "awq", packer.ErrInvalid, []string{"gate_up_proj: found gate_proj quantized and up_proj not"}},
		{"two schemes", packer.W4A8, func(f *files) {
			f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(`"config_groups": {`), []byte(`"config_groups": {"group_1": {"targets": ["re:x"]},`), 1)
		}, "awq", ErrRepresent, []string{"2 groups"}},
		{"full precision", packer.W4A8, func(f *files) {
			f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(`"quantization_config"`), []byte(`"transformers_version"`), 1)
		}, "awq", packer.ErrInvalid, []string{"not quantized"}},
		{"a method of another program", packer.W4A8, func(f *files) {
			f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(`"compressed-tensors"`), []byte(`"bitsandbytes"`), 1)
		}, "awq", packer.ErrInvalid, []string{`"bitsandbytes"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := exported(t, c.scheme)
			if c.change != nil {
				c.change(f)
			}
			out := filepath.Join(t.TempDir(), "out")
			_, err := Convert(context.Background(), open(t, f.write(t)), out, Options{To: c.to, InputAbsMax: amax})
			if !errors.Is(err, c.err) {
				t.Fatalf("%v, want a %v", err, c.err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("no %q in: %v", s, err)
				}
			}
			if left, _ := os.ReadDir(filepath.Dir(out)); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestConvertNeedsActivations(t *testing.T) {
	t.Parallel()
	r := open(t, exported(t, packer.W4A8).write(t))
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Convert(context.Background(), r, out, Options{To: "modelopt"}); !errors.Is(err, ErrRepresent) || !strings.Contains(err.Error(), "--calib") {
		t.Error(err)
	}
	lost := errors.New("no statistics")
	_, err := Convert(context.Background(), r, out, Options{To: "modelopt", InputAbsMax: func(string) (float32, error) { return 0, lost }})
	if !errors.Is(err, lost) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Convert(ctx, r, out, Options{To: "gptq"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("output: %v", err)
	}
}

// GPTQ and AWQ exchange zero points and scales of eleven bits, which no other
// format has.
func TestConvertAsymmetric(t *testing.T) {
	t.Parallel()
	dir, _ := convert(t, exported(t, packer.W4A16).write(t), "gptq")
	f := load(t, dir)
	const up = "model.layers.0.mlp.up_proj"
	f.tensors[up+".qzeros"].Data[5] = 0x31
	binary.LittleEndian.PutUint16(f.tensors[up+".scales"].Data, 0x2401)
	delete(f.tensors, up+".g_idx") // older writers leave it out
	delete(f.other, packer.ManifestPath)
	dir = f.write(t)
	awq, rep := convert(t, dir, "awq")
	if len(rep.Notes) != 0 {
		t.Errorf("notes %q", rep.Notes)
	}
	again, _ := convert(t, awq, "gptq")
	got := load(t, again)
	for name, p := range f.tensors {
		if !bytes.Equal(got.tensors[name].Data, p.Data) {
			t.Errorf("%s changed", name)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Convert(context.Background(), open(t, awq), out, Options{To: packer.QuantMethod}); !errors.Is(err, ErrRepresent) || !strings.Contains(err.Error(), "zero points") {
		t.Error(err)
	}
	v2 := f.clone()
	v2.other["config.json"] = bytes.Replace(v2.other["config.json"], []byte(`"checkpoint_format": "gptq"`), []byte(`"format": "gptq_v2"`), 1)
	if _, err := Convert(context.Background(), open(t, v2.write(t)), out, Options{To: "awq"}); err != nil {
		t.Errorf("version 2: %v", err) // other zero points, as valid
	}
}

func TestConvertCacheScales(t *testing.T) {
	t.Parallel()
	f := exported(t, packer.W4A8)
	for _, name := range []string{"config.json", "w4a16/config.json"} {
		f.other[name] = bytes.Replace(f.other[name], []byte(`"kv_cache_scheme": null`), []byte(`"kv_cache_scheme": {"num_bits": 8, "type": "float"}`), 1)
	}
	for layer, prefix := range []string{"model.layers.0.self_attn.", "model.layers.1.self_attn."} {
		f.put(prefix+"k_scale", tensor.F32, floats([]float32{0.5 + float32(layer)}), 1)
		f.put(prefix+"v_scale", tensor.F32, floats([]float32{3 + float32(layer)}), 1)
	}
	dir := f.write(t)
	there, _ := convert(t, dir, "modelopt")
	m := load(t, there)
	if s := m.tensors["model.layers.1.self_attn.k_proj.k_scale"]; !bytes.Equal(s.Data, floats([]float32{1.5})) || len(m.shapes["model.layers.1.self_attn.k_proj.k_scale"]) != 0 {
		t.Errorf("k_scale: %v", s)
	}
	if !strings.Contains(string(m.other[hfQuantFile]), `"kv_cache_quant_algo": "FP8"`) {
		t.Error("no kv_cache_quant_algo")
	}
	again, _ := convert(t, there, packer.QuantMethod)
	got := load(t, again)
	for name, p := range f.tensors {
		if !bytes.Equal(got.tensors[name].Data, p.Data) {
			t.Errorf("%s changed", name)
		}
	}
	if v, err := packer.Verify(t.Context(), again); err != nil || !v.OK {
		t.Errorf("%v, %+v", err, v)
	}
	gptq, rep := convert(t, dir, "gptq")
	if _, ok := load(t, gptq).tensors["model.layers.0.self_attn.k_scale"]; ok || !strings.Contains(strings.Join(rep.Notes, " "), "4 scales of the FP8 cache are left out") {
		t.Errorf("notes %q", rep.Notes)
	}
	delete(f.tensors, "model.layers.1.self_attn.v_scale")
	if _, err := Convert(context.Background(), open(t, f.write(t)), filepath.Join(t.TempDir(), "out"), Options{To: "modelopt", InputAbsMax: amax}); !errors.Is(err, packer.ErrInvalid) {
		t.Errorf("a scale missing: %v", err)
	}
}

// Verify catches what is broken in a converted checkpoint, with the right item.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	const up, down = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"
	made := map[string]*files{}
	for _, to := range []string{"gptq", "awq", "modelopt"} {
		dir, _ := convert(t, exported(t, packer.W4A8).write(t), to)
		made[to] = load(t, dir)
	}
	blocks, _ := convert(t, deepSeek(t).write(t), packer.QuantMethod)
	made["blocks"] = load(t, blocks)
	config := func(f *files, from, to string) {
		f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(from), []byte(to), 1)
	}
	for _, c := range []struct {
		name, format string
		damage       func(f *files)
		item, says   string
	}{
		{"no status", "blocks", func(f *files) { config(f, `"quantization_status": "compressed",`, ``) }, itemConfig, "quantization_status"},
		{"no format in the group", "blocks", func(f *files) { config(f, `"format": "float-quantized",`, ``) }, itemConfig, "config_groups.group_0.format"},
		{"ignore without the head", "blocks", func(f *files) { config(f, `"lm_head"`, `"other"`) }, itemIgnore, "lm_head is missing"},
		{"a quantized linear in ignore", "blocks", func(f *files) { config(f, `"lm_head"`, `"lm_head", "`+up+`"`) }, itemIgnore, up},
		{"a scale that is missing", "blocks", func(f *files) { delete(f.tensors, down+".weight_scale") }, itemIgnore, down},
		{"a scale that is no number", "blocks", func(f *files) { copy(f.tensors[up+".weight_scale"].Data, []byte{0, 0, 0xc0, 0x7f}) }, itemWeights, up},
		{"scales missing", "gptq", func(f *files) { delete(f.tensors, up+".scales") }, itemNames, up + ".scales"},
		{"norm missing", "awq", func(f *files) { delete(f.tensors, "model.norm.weight") }, itemNames, "model.norm.weight"},
		{"bias missing", "awq", func(f *files) { delete(f.tensors, "model.layers.0.self_attn.q_proj.bias") }, itemNames, "q_proj.bias"},
		{"a bias that config.json denies", "gptq", func(f *files) { f.put(up+".bias", tensor.BF16, make([]byte, 2*256), 256) }, itemNames, up + ".bias: invalid checkpoint: found 1 tensor"},
		{"a bias of another program's export", "awq", func(f *files) {
			delete(f.other, packer.ManifestPath)
			f.put(down+".bias", tensor.BF16, make([]byte, 2*128), 128)
		}, itemNames, down + ".bias: invalid checkpoint: found 1 tensor"},
		{"a bias of the head", "modelopt", func(f *files) { f.put("lm_head.bias", tensor.BF16, make([]byte, 2*96), 96) }, itemNames, "lm_head.bias: invalid checkpoint: found 1 tensor"},
		{"layers that config.json does not count", "gptq", func(f *files) {
			f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(`"num_hidden_layers": 2`), []byte(`"num_hidden_layers": 1`), 1)
		}, itemNames, "config.json num_hidden_layers"},
		{"a weight beside it", "gptq", func(f *files) { f.put(up+".weight", tensor.BF16, make([]byte, 2*256*128), 256, 128) }, itemNames, up + ".weight"},
		{"a stray tensor", "awq", func(f *files) { f.put("extra", tensor.F32, make([]byte, 4), 1) }, itemNames, "extra"},
		{"a head beside tied embeddings", "awq", func(f *files) { f.put("lm_head.weight", tensor.BF16, make([]byte, 2*96*128), 96, 128) }, itemNames, "lm_head.weight"},
		{"scales of another width", "awq", func(f *files) { f.put(up+".scales", tensor.F16, make([]byte, 2*128), 1, 128) }, itemWeights, "[1 128]"},
		{"a scale that is zero", "gptq", func(f *files) { copy(f.tensors[up+".scales"].Data[6:], []byte{0, 0}) }, itemWeights, "row 3, group 0"},
		{"groups in another order", "gptq", func(f *files) { f.tensors[up+".g_idx"].Data[0] = 1 }, itemWeights, "act-order"},
		{"another group size", "gptq", func(f *files) {
			f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(`"group_size": 128`), []byte(`"group_size": 64`), 1)
		}, itemWeights, "wanted"},
		{"three bits", "gptq", func(f *files) {
			f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(`"bits": 4`), []byte(`"bits": 3`), 1)
		}, itemConfig, "found 3"},
		{"no configuration", "modelopt", func(f *files) { delete(f.other, hfQuantFile) }, itemConfig, "not quantized"},
		{"an algorithm twice", "modelopt", func(f *files) {
			f.other[hfQuantFile] = bytes.Replace(f.other[hfQuantFile], []byte(`"quant_algo"`), []byte(`"quant_algo": "FP8", "quant_algo"`), 1)
		}, itemConfig, hfQuantFile + `: invalid quantization: invalid checkpoint: found "quant_algo" twice in one object, wanted each key once (remove`},
		{"an unknown algorithm", "modelopt", func(f *files) {
			f.other[hfQuantFile] = bytes.Replace(f.other[hfQuantFile], []byte("W4A8_AWQ"), []byte("NVFP4"), 1)
		}, itemConfig, "NVFP4"},
		{"input_scale of one shard", "modelopt", func(f *files) { f.put(up+".input_scale", tensor.F32, floats([]float32{2})) }, itemMerged, up + ": found input_scale 2"},
		{"weight_scale_2 of one shard", "modelopt", func(f *files) { f.put(up+".weight_scale_2", tensor.F32, floats([]float32{2})) }, itemMerged, "weight_scale_2 2"},
		{"pre_quant_scale missing", "modelopt", func(f *files) { delete(f.tensors, down+".pre_quant_scale") }, itemMerged, down + ".pre_quant_scale"},
		{"a negative input_scale", "modelopt", func(f *files) { f.put(up+".input_scale", tensor.F32, floats([]float32{-1})) }, itemWeights, "input_scale"},
		{"an infinite norm", "awq", func(f *files) { binary.LittleEndian.PutUint16(f.tensors["model.norm.weight"].Data, 0x7f80) }, itemFinite, "model.norm.weight"},
		{"one code", "awq", func(f *files) { f.tensors[up+".qweight"].Data[77] ^= 1 }, packer.ItemHashes, up + ".qweight"},
		{"a copied file", "awq", func(f *files) { f.other["tokenizer.json"] = []byte("other") }, packer.ItemHashes, "tokenizer.json"},
		{"the configuration", "awq", func(f *files) {
			f.other["config.json"] = bytes.Replace(f.other["config.json"], []byte(`"zero_point": true`), []byte(`"zero_point": false`), 1)
		}, packer.ItemHashes, "config.json"},
	} {
		t.Run(c.format+" "+c.name, func(t *testing.T) {
			t.Parallel()
			f := made[c.format].clone()
			c.damage(f)
			v, err := Verify(t.Context(), open(t, f.write(t)), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, check := range v.Checks {
				if !v.OK && !check.OK && check.Item == c.item && strings.Contains(check.Detail, c.says) {
					return
				}
			}
			text, _ := json.MarshalIndent(v, "", "  ")
			t.Errorf("wanted %s to say %q: %s", c.item, c.says, text)
		})
	}
}

// asked is a context that is cancelled when it was asked left times.
type asked struct {
	context.Context
	left int
}

func (a *asked) Err() error {
	if a.left--; a.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestVerifyEndsBetweenTensors(t *testing.T) {
	t.Parallel()
	dir, _ := convert(t, exported(t, packer.W4A8).write(t), "gptq")
	r := open(t, dir)
	for left := range 13 + len(r.Names()) { // linears that unpack, then hashes
		if v, err := Verify(&asked{t.Context(), left}, r, nil); v != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at tensor %d: %v, %v", left, v, err)
		}
	}
}
