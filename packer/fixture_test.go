package packer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/tensor"
)

// contents is a whole checkpoint in memory, for making and for damaging one.
type contents struct {
	tensors map[string]part
	files   map[string][]byte
}

type part struct {
	dtype tensor.DType
	shape []int
	data  []byte
}

// tiny returns a random Llama of two layers in BF16 whose linears read hidden or
// inter features.
func tiny(t testing.TB, hidden, inter int, tied bool) *contents {
	t.Helper()
	config := fmt.Sprintf(`{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": 2, "num_attention_heads": %d,
  "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 96, "max_position_embeddings": 64,
  "rms_norm_eps": 1e-06, "tie_word_embeddings": %v, "torch_dtype": "bfloat16", "rope_theta": 10000.0
}
`, hidden, inter, hidden/64, tied)
	cfg, err := model.ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	c := &contents{map[string]part{}, map[string][]byte{"config.json": []byte(config), "tokenizer.json": []byte("{}")}}
	r := rand.New(rand.NewPCG(7, uint64(hidden)))
	for _, e := range model.Tensors(cfg) {
		c.tensors[e.Name] = bf16Part(e.Shape, func(int) float32 { return gaussian(r) })
	}
	return c
}

func bf16Part(shape []int, value func(i int) float32) part {
	n := 1
	for _, d := range shape {
		n *= d
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = value(i)
	}
	data := make([]byte, 2*n)
	if err := tensor.Encode(data, x, tensor.BF16); err != nil {
		panic(err)
	}
	return part{tensor.BF16, shape, data}
}

// poison puts the bits of a BF16 in the place of element i.
func (c *contents) poison(name string, i int, bits uint16) {
	data := bytes.Clone(c.tensors[name].data) // originals are shared
	binary.LittleEndian.PutUint16(data[2*i:], bits)
	p := c.tensors[name]
	p.data = data
	c.tensors[name] = p
}

// biases gives attention the biases that config.json then promises.
func (c *contents) biases() {
	for _, rel := range []string{configPath, weightOnlyPath} {
		if text, ok := c.files[rel]; ok {
			c.files[rel] = bytes.Replace(text, []byte(`"hidden_size"`), []byte(`"attention_bias": true, "hidden_size"`), 1)
		}
	}
	cfg, err := model.ParseConfig(c.files[configPath])
	if err != nil {
		panic(err)
	}
	for _, e := range model.Tensors(cfg) {
		if e.Kind == model.KindBias {
			c.tensors[e.Name] = bf16Part(e.Shape, func(int) float32 { return 1 })
		}
	}
}

// write stores c in a new directory.
func (c *contents) write(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkpoint")
	names := slices.Sorted(maps.Keys(c.tensors))
	var infos []checkpoint.Info
	for _, name := range names {
		infos = append(infos, checkpoint.Info{Name: name, DType: c.tensors[name].dtype, Shape: c.tensors[name].shape})
	}
	w, err := checkpoint.Create(dir, infos, checkpoint.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := w.Add(name, c.tensors[name].data); err != nil {
			t.Fatal(err)
		}
	}
	for _, rel := range slices.Sorted(maps.Keys(c.files)) {
		if err := w.File(rel, c.files[rel]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// load reads a whole checkpoint.
func load(t testing.TB, dir string) *contents {
	t.Helper()
	r := open(t, dir)
	c := &contents{map[string]part{}, map[string][]byte{}}
	for _, name := range r.Names() {
		info, err := r.Info(name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.Raw(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.tensors[name] = part{info.DType, info.Shape, data}
	}
	for _, rel := range append([]string{configPath, weightOnlyPath, ManifestPath}, r.Files()...) {
		if data, err := os.ReadFile(filepath.Join(dir, rel)); err == nil {
			c.files[rel] = data
		}
	}
	return c
}

func open(t testing.TB, dir string) *checkpoint.Reader {
	t.Helper()
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func options(t testing.TB, r *checkpoint.Reader, s Scheme) ExportOptions {
	t.Helper()
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	return ExportOptions{Model: cfg, Scheme: s, Int4: Int4Options{Grid: GridLUT, Search: true}, Recipe: "scheme: test\n", Tool: "quantize test"}
}

// snapshot maps every file below dir to its bytes.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func mustVerify(t testing.TB, dir string) *Verification {
	t.Helper()
	v, err := Verify(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func demandOK(t testing.TB, dir string) {
	t.Helper()
	if v := mustVerify(t, dir); !v.OK {
		text, _ := json.MarshalIndent(v, "", "  ")
		t.Fatalf("verify: %s", text)
	}
}
