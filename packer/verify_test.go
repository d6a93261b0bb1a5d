package packer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"quantize/model"
	"quantize/tensor"
)

// exported is a fresh quantized checkpoint in memory.
func exported(t testing.TB, s Scheme, hidden int, g Grid) *contents {
	t.Helper()
	r := open(t, tiny(t, hidden, 128, true).write(t))
	o := options(t, r, s)
	o.Int4.Grid = g
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Export(context.Background(), r, out, o); err != nil {
		t.Fatal(err)
	}
	return load(t, out)
}

// damageable is a copy of one exported checkpoint that is made once.
func damageable(t testing.TB, s Scheme, g Grid) *contents {
	t.Helper()
	type key struct {
		s Scheme
		g Grid
	}
	made, ok := originals.Load(key{s, g})
	if !ok {
		made, _ = originals.LoadOrStore(key{s, g}, exported(t, s, 128, g))
	}
	c := &contents{tensors: map[string]part{}, files: maps.Clone(made.(*contents).files)}
	for name, p := range made.(*contents).tensors {
		c.tensors[name] = part{p.dtype, p.shape, bytes.Clone(p.data)}
	}
	return c
}

var originals sync.Map

func (c *contents) replace(file, old, replacement string) {
	text := string(c.files[file])
	if !strings.Contains(text, old) {
		panic("nothing to replace in " + file)
	}
	c.files[file] = []byte(strings.ReplaceAll(text, old, replacement))
}

func fails(v *Verification, item, says string) bool {
	for _, c := range v.Checks {
		if c.Item == item && !c.OK && strings.Contains(c.Detail, says) {
			return true
		}
	}
	return false
}

// With the source at hand the errors of the manifest are computed again.
func TestVerifyAgainstSource(t *testing.T) {
	for _, s := range []Scheme{W4A8, FP8} {
		src := tiny(t, 128, 128, true)
		dir := src.write(t)
		r := open(t, dir)
		o := options(t, r, s)
		o.Recipe = plainRecipe
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Export(context.Background(), r, out, o); err != nil {
			t.Fatal(err)
		}
		v, err := VerifyAgainst(t.Context(), out, r)
		if err != nil || !v.OK || !says(v, ItemSource, "the errors of 14 of 14 linears are the manifest's; largest 0.") {
			t.Errorf("%v: %v, %+v", s, err, v)
		}

		// Another model
		src.tensors["model.layers.0.mlp.up_proj.weight"].data[0] ^= 1
		v, err = VerifyAgainst(t.Context(), out, open(t, src.write(t)))
		if err != nil || v.OK || !fails(v, ItemSource, "up_proj.weight of the source") {
			t.Errorf("%v, another source: %v, %+v", s, err, v)
		}

		// A manifest that flatters
		c := load(t, out)
		m, err := ParseManifest(c.files[ManifestPath])
		if err != nil {
			t.Fatal(err)
		}
		m.Layers[3].SSE *= 0.999
		m.Layers[4].Energy *= 1.001
		if c.files[ManifestPath], err = m.encode(); err != nil {
			t.Fatal(err)
		}
		v, err = VerifyAgainst(t.Context(), c.write(t), r)
		if err != nil || v.OK || !fails(v, ItemSource, m.Layers[3].Name+": found a squared error") || !fails(v, ItemSource, m.Layers[4].Name+": found a sum of squares") {
			t.Errorf("%v, another error: %v, %+v", s, err, v)
		}
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

// Every loop over tensors asks the context: those of full precision, values, hashes, the
// source's hashes and the errors.
func TestVerifyEndsBetweenTensors(t *testing.T) {
	t.Parallel()
	r := open(t, tiny(t, 128, 128, true).write(t))
	out := filepath.Join(t.TempDir(), "out")
	o := options(t, r, W4A8)
	o.Recipe = plainRecipe
	if _, err := Export(t.Context(), r, out, o); err != nil {
		t.Fatal(err)
	}
	whole := &asked{t.Context(), 1 << 20}
	if v, err := VerifyAgainst(whole, out, r); err != nil || !v.OK {
		t.Fatal(v, err)
	}
	count := 1<<20 - whole.left
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	if least := len(model.Tensors(cfg)) + 14 + len(open(t, out).Names()) + len(r.Names()) + 14; count < least { // and for the files beside them
		t.Errorf("the context was asked %d times, want at least %d", count, least)
	}
	for left := range count {
		if v, err := VerifyAgainst(&asked{t.Context(), left}, out, r); v != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %d of %d: %v, %v", left, count, v, err)
		}
	}
}

func says(v *Verification, item, text string) bool {
	for _, c := range v.Checks {
		if c.Item == item && strings.Contains(c.Detail, text) {
			return true
		}
	}
	return false
}

func TestVerifyTellsAllFaults(t *testing.T) {
	c := damageable(t, W4A8, GridLUT)
	delete(c.tensors, "model.layers.1.input_layernorm.weight")
	delete(c.tensors, "model.layers.0.mlp.gate_proj.weight_packed")
	binary.LittleEndian.PutUint64(c.tensors["model.layers.1.self_attn.q_proj.weight_shape"].data[8:], 1)
	binary.LittleEndian.PutUint16(c.tensors["model.layers.1.self_attn.k_proj.weight_scale"].data, 0)
	c.replace(configPath, `"quantization_status": "compressed"`, `"quantization_status": "frozen"`)
	v := mustVerify(t, c.write(t))
	for item, says := range map[string]string{
		ItemConfig: "frozen", ItemShape: "q_proj", ItemScales: "k_proj", ItemHashes: "k_proj", ItemVariant: "quantization_status",
	} {
		if !fails(v, item, says) {
			t.Errorf("%s does not say %q", item, says)
		}
	}
	if !fails(v, ItemNames, "input_layernorm") || !fails(v, ItemNames, "gate_proj.weight_packed") {
		t.Error("only one of two missing tensors told")
	}
}

// Damage below the tensors: what a writer of ours would not write.
func TestVerifyFindsDamagedFiles(t *testing.T) {
	edit := func(t *testing.T, file string, change func([]byte) []byte) *Verification {
		t.Helper()
		dir := damageable(t, W4A8, GridLUT).write(t)
		path := filepath.Join(dir, file)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return mustVerify(t, dir)
	}
	swap := func(old, replacement string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !strings.Contains(string(b), old) {
				t.Fatalf("no %q", old)
			}
			return []byte(strings.Replace(string(b), old, replacement, 1))
		}
	}
	const index = "model.safetensors.index.json"
	shard := "model-00001-of-00001.safetensors"
	if files := snapshot(t, damageable(t, W4A8, GridLUT).write(t)); files[shard] == "" {
		shard = "model.safetensors"
	}
	for _, c := range []struct {
		name, file string
		change     func([]byte) []byte
		item, says string
	}{
		{"truncated shard", shard, func(b []byte) []byte { return b[:len(b)-9] }, ItemStructure, shard},
		{"wrong total_size", index, swap(`"total_size": `, `"total_size": 1`), ItemIndex, "total_size"},
		{"no framework", shard, swap(`{"format":"pt"}`, `{"format":"np"}`), ItemIndex, `found "np"`},
		{"index names another tensor", index, swap("model.norm.weight", "model.gnorm.weight"), ItemStructure, "norm.weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if v := edit(t, c.file, c.change); v.OK || !fails(v, c.item, c.says) {
				t.Errorf("%+v", v)
			}
		})
	}
	if _, err := Verify(t.Context(), filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, ErrInvalid) {
		t.Errorf("no directory: %v", err)
	}
}

// Side files may be larger than anything that is parsed.
func TestVerifyHashesLargeFiles(t *testing.T) {
	c := damageable(t, W4A8, GridLUT)
	m, err := ParseManifest(c.files[ManifestPath])
	if err != nil {
		t.Fatal(err)
	}
	const large = largestManifest + 1
	sum := sha256.New()
	if _, err := io.CopyN(sum, zeros{}, large); err != nil {
		t.Fatal(err)
	}
	m.Files["adapter.gguf"] = hex.EncodeToString(sum.Sum(nil))
	if c.files[ManifestPath], err = m.encode(); err != nil {
		t.Fatal(err)
	}
	dir := c.write(t)
	path := filepath.Join(dir, "adapter.gguf")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, large); err != nil { // with holes
		t.Fatal(err)
	}
	demandOK(t, dir)
	if err := os.Truncate(path, large+1); err != nil {
		t.Fatal(err)
	}
	if v := mustVerify(t, dir); !fails(v, ItemHashes, "adapter.gguf: found sha256") {
		t.Errorf("%+v", v)
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if v := mustVerify(t, dir); !fails(v, ItemHashes, "adapter.gguf: found no regular file") {
		t.Errorf("%+v", v)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// ReadWeight refuses what would be wrong weights.
func TestReadWeightRefuses(t *testing.T) {
	const up = "model.layers.0.mlp.up_proj"
	for _, c := range []struct {
		name   string
		scheme Scheme
		damage func(c *contents)
		says   string
	}{
		{"no scale", W4A8, func(c *contents) { delete(c.tensors, up+scaleSuffix) }, up + scaleSuffix},
		{"no codes", W4A8, func(c *contents) { delete(c.tensors, up+packedSuffix) }, up + packedSuffix},
		{"codes of another type", W4A8, func(c *contents) {
			p := c.tensors[up+packedSuffix]
			p.dtype = tensor.F32
			c.tensors[up+packedSuffix] = p
		}, "F32"},
		{"wrong weight_shape", W4A8, func(c *contents) { c.tensors[up+shapeSuffix].data[0] = 1 }, "[1, 128]"},
		{"NaN scale", W4A8, func(c *contents) { binary.LittleEndian.PutUint16(c.tensors[up+scaleSuffix].data, 0x7fff) }, "NaN"},
		{"negative scale", W4A8, func(c *contents) { binary.LittleEndian.PutUint16(c.tensors[up+scaleSuffix].data, 0xbf80) }, "-1"},
		{"other group size", W4A8, func(c *contents) { c.replace(configPath, `"group_size": 128`, `"group_size": 64`) }, "[128 2]"},
		{"group size that does not divide", W4A8, func(c *contents) { c.replace(configPath, `"group_size": 128`, `"group_size": 96`) }, "groups of 96"},
		{"three bits", W4A8, func(c *contents) { c.replace(configPath, `"num_bits": 4`, `"num_bits": 3`) }, "int3"},
		{"FP8 NaN", FP8, func(c *contents) { c.tensors[up+weightSuffix].data[3] = 0x7f }, "element 3"},
		{"FP8 without scale", FP8, func(c *contents) { delete(c.tensors, up+scaleSuffix) }, up + scaleSuffix},
		{"FP8 flat scale", FP8, func(c *contents) { p := c.tensors[up+scaleSuffix]; p.shape = []int{128}; c.tensors[up+scaleSuffix] = p }, "[128]"},
		{"FP8 weight in BF16", FP8, func(c *contents) {
			c.tensors[up+weightSuffix] = bf16Part([]int{128, 128}, func(int) float32 { return 1 })
		}, "BF16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := damageable(t, c.scheme, GridLUT)
			c.damage(made)
			r := open(t, made.write(t))
			q, err := ParseQuantizationConfig(r.ConfigJSON())
			if err != nil {
				t.Fatal(err)
			}
			if w, err := ReadWeight(r, up, q); err == nil || !strings.Contains(err.Error(), c.says) || w != nil {
				t.Errorf("%v, %v", w, err)
			}
		})
	}
}
