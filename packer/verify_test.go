package packer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

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

// Each row is a real failure of published checkpoints, and the item that must
// catch it. The manifest catches most of them a second time.
func TestVerifyFinds(t *testing.T) {
	const up = "model.layers.0.mlp.up_proj"
	setScale := func(c *contents, i int, bits uint16) {
		binary.LittleEndian.PutUint16(c.tensors[up+scaleSuffix].data[2*i:], bits)
	}
	for _, c := range []struct {
		name   string
		scheme Scheme
		damage func(c *contents)
		item   string
		says   string
	}{
		{"scale missing", W4A8, func(c *contents) { delete(c.tensors, up+scaleSuffix) }, ItemNames, up + ".weight_scale: found no such tensor"},
		{"norm missing", W4A8, func(c *contents) { delete(c.tensors, "model.norm.weight") }, ItemNames, "model.norm.weight"},
		{"whole module missing", W4A8, func(c *contents) {
			for _, s := range []string{packedSuffix, scaleSuffix, shapeSuffix} {
				delete(c.tensors, up+s)
			}
		}, ItemNames, up + ".weight_packed"},
		{"weight beside weight_packed", W4A8, func(c *contents) {
			c.tensors[up+".weight"] = bf16Part([]int{128, 128}, func(int) float32 { return 1 })
		}, ItemNames, up + ".weight: found a stray tensor"},
		{"zero point", W4A8, func(c *contents) {
			c.tensors[up+".weight_zero_point"] = part{tensor.I32, []int{16, 1}, make([]byte, 64)}
		}, ItemNames, "weight_zero_point"},
		{"head beside tied embeddings", W4A8, func(c *contents) { c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"] }, ItemNames, "lm_head.weight"},
		{"unquantized weight that config quantizes", W4A8, func(c *contents) {
			for _, s := range []string{packedSuffix, scaleSuffix, shapeSuffix} {
				delete(c.tensors, up+s)
			}
			c.tensors[up+".weight"] = bf16Part([]int{128, 128}, func(int) float32 { return 1 })
		}, ItemIgnore, up},
		{"quantized weight that config ignores", W4A8, func(c *contents) {
			c.replace(configPath, `"lm_head"`, `"lm_head", "`+up+`"`)
		}, ItemIgnore, up},
		{"lm_head not ignored", W4A8, func(c *contents) { c.replace(configPath, `"lm_head"`, "") }, ItemIgnore, "lm_head is missing"},
		{"weight_shape swapped", W4A8, func(c *contents) { binary.LittleEndian.PutUint64(c.tensors[up+shapeSuffix].data, 64) }, ItemShape, "[64, 128], wanted [128, 128]"},
		{"F16 scales", W4A8, func(c *contents) { p := c.tensors[up+scaleSuffix]; p.dtype = tensor.F16; c.tensors[up+scaleSuffix] = p }, ItemShapes, "F16"},
		{"scales of another group size", W4A8, func(c *contents) {
			c.tensors[up+scaleSuffix] = bf16Part([]int{128, 2}, func(int) float32 { return 1 })
		}, ItemShapes, "[128 2]"},
		{"norm of another width", W4A8, func(c *contents) {
			c.tensors["model.norm.weight"] = bf16Part([]int{64}, func(int) float32 { return 1 })
		}, ItemShapes, "model.norm.weight"},
		{"zero scale", W4A8, func(c *contents) { setScale(c, 3, 0) }, ItemScales, "element 3: found 0"},
		{"negative scale", W4A8, func(c *contents) { setScale(c, 4, 0xbf80) }, ItemScales, "element 4: found -1"},
		{"infinite scale", W4A8, func(c *contents) { setScale(c, 5, 0x7f80) }, ItemScales, "+Inf"},
		{"NaN scale", W4A8, func(c *contents) { setScale(c, 6, 0x7fc0) }, ItemScales, "NaN"},
		{"another method", W4A8, func(c *contents) { c.replace(configPath, `"compressed-tensors"`, `"gptq"`) }, ItemConfig, "gptq"},
		{"not compressed", W4A8, func(c *contents) { c.replace(configPath, `"compressed"`, `"frozen"`) }, ItemConfig, "quantization_status"},
		{"format in one place", W4A8, func(c *contents) {
			c.replace(configPath, `"format": "pack-quantized",`+"\n        \"input", `"input`)
		}, ItemConfig, "config_groups.group_0.format"},
		{"cache scheme without scales", W4A8, func(c *contents) {
			c.replace(configPath, `"kv_cache_scheme": null`, `"kv_cache_scheme": {"num_bits": 8, "type": "float"}`)
		}, ItemConfig, "kv_cache_scheme"},
		{"sparsity", W4A8, func(c *contents) { c.replace(configPath, `"sparsity_config": {}`, `"sparsity_config": {"a": 1}`) }, ItemConfig, "sparsity_config"},
		{"unknown scheme", W4A8, func(c *contents) { c.replace(configPath, `"num_bits": 4`, `"num_bits": 3`) }, ItemConfig, "int3"},
		{"not quantized", W4A8, func(c *contents) { c.replace(configPath, `"quantization_config"`, `"other_config"`) }, ItemConfig, "other_config"},
		{"variant missing", W4A8, func(c *contents) { delete(c.files, weightOnlyPath) }, ItemVariant, weightOnlyPath},
		{"variant of another model", W4A8, func(c *contents) { c.replace(weightOnlyPath, `"rope_theta": 10000.0`, `"rope_theta": 5000.0`) }, ItemVariant, `"rope_theta"`},
		{"variant with activations", W4A8, func(c *contents) { c.files[weightOnlyPath] = c.files[configPath] }, ItemVariant, "wanted null"},
		{"tensor changed", W4A8, func(c *contents) { c.tensors["model.embed_tokens.weight"].data[9] ^= 1 }, ItemHashes, "model.embed_tokens.weight"},
		{"code changed", W4A8, func(c *contents) { c.tensors[up+packedSuffix].data[9] ^= 1 }, ItemHashes, up + packedSuffix},
		{"config changed", W4A8, func(c *contents) {
			c.replace(configPath, "0.14.0", "0.14.1")
			c.replace(weightOnlyPath, "0.14.0", "0.14.1")
		}, ItemHashes, configPath},
		{"tensor added", W4A8, func(c *contents) { c.tensors["extra"] = bf16Part([]int{2}, func(int) float32 { return 1 }) }, ItemHashes, "extra"},
		{"manifest missing", W4A8, func(c *contents) { delete(c.files, ManifestPath) }, ItemHashes, ManifestPath},
		{"manifest damaged", W4A8, func(c *contents) { c.replace(ManifestPath, `"layers"`, `"lagers"`) }, ItemHashes, "lagers"},
		{"manifest lists more", W4A8, func(c *contents) {
			c.replace(ManifestPath, `"tensors": {`, `"tensors": {"ghost": "`+strings.Repeat("00", 32)+`",`)
		}, ItemHashes, "ghost: found no such tensor"},
		{"manifest names a foreign file", W4A8, func(c *contents) {
			c.replace(ManifestPath, `"files": {`, `"files": {"../../secret": "`+strings.Repeat("00", 32)+`",`)
		}, ItemHashes, "../../secret"},
		{"code -8 on the exact grid", W4A16, func(c *contents) { c.tensors[up+packedSuffix].data[7] = 0x80 }, ItemCodes, "code -8"},
		{"FP8 NaN code", FP8, func(c *contents) { c.tensors[up+weightSuffix].data[11] = 0xff }, ItemCodes, "element 11: found NaN"},
		{"FP8 scale zero", FP8, func(c *contents) { copy(c.tensors[up+scaleSuffix].data[8:], make([]byte, 4)) }, ItemScales, "element 2: found 0"},
		{"FP8 weight_shape", FP8, func(c *contents) { c.tensors[up+shapeSuffix] = part{tensor.I64, []int{2}, make([]byte, 16)} }, ItemNames, up + shapeSuffix},
	} {
		t.Run(c.name, func(t *testing.T) {
			grid := GridLUT
			if c.scheme == W4A16 {
				grid = GridExact
			}
			made := damageable(t, c.scheme, grid)
			c.damage(made)
			v := mustVerify(t, made.write(t))
			if v.OK || !fails(v, c.item, c.says) {
				text, _ := json.MarshalIndent(v, "", "  ")
				t.Errorf("wanted %s to say %q: %s", c.item, c.says, text)
			}
		})
	}
}

func fails(v *Verification, item, says string) bool {
	for _, c := range v.Checks {
		if c.Item == item && !c.OK && strings.Contains(c.Detail, says) {
			return true
		}
	}
	return false
}

// Scales that runtimes would move: chosen without the grid, or with one bit off.
func TestVerifyFindsMovedScales(t *testing.T) {
	const up = "model.layers.0.mlp.up_proj"
	for name, change := range map[string]func(scales []byte){
		"one bit of one group": func(s []byte) { s[0] ^= 1 },
		"amax/7 of each group": func(s []byte) {
			for i := 0; i < len(s); i += 2 {
				binary.LittleEndian.PutUint16(s[i:], tensor.BF16Bits(0.01*(1+float32(i%37)/40)))
			}
		},
	} {
		c := exported(t, W4A8, 256, GridLUT)
		change(c.tensors[up+scaleSuffix].data)
		if v := mustVerify(t, c.write(t)); v.OK || !fails(v, ItemGrid, up) {
			t.Errorf("%s: %+v", name, v)
		}
	}
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
	if _, err := Verify(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, ErrInvalid) {
		t.Errorf("no directory: %v", err)
	}
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
