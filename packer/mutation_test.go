package packer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/tensor"
)

func ones(shape ...int) part { return bf16Part(shape, func(int) float32 { return 1 }) }

// cached gives a checkpoint an FP8 cache, scales and all.
func cached(c *contents) {
	for _, f := range []string{configPath, weightOnlyPath} {
		c.replace(f, `"kv_cache_scheme": null`, `"kv_cache_scheme": {"num_bits": 8, "type": "float"}`)
	}
	for layer := range 2 {
		for _, s := range []string{"k", "v"} {
			c.tensors[fmt.Sprintf("model.layers.%d.self_attn.%s_scale", layer, s)] = ones(1)
		}
	}
}

const plainRecipe = "name: r\nscheme: W4A8_FP8\nweights: {rounding: rtn}\nignore: [lm_head]\nkv: {format: none}\n"

// signed gives the manifest a recipe, and the hash of a tensor as it is now: who
// changes a tensor may sign it too.
func (c *contents) signed(recipe, name string) {
	m, err := ParseManifest(c.files[ManifestPath])
	if err != nil {
		panic(err)
	}
	m.Recipe, m.Tensors[name] = recipe, sha256Hex(c.tensors[name].data)
	if c.files[ManifestPath], err = m.encode(); err != nil {
		panic(err)
	}
}

// sidecar gives a checkpoint one.
func (c *contents) sidecar(s Sidecar) {
	data, err := EncodeSidecar(&s)
	if err != nil {
		panic(err)
	}
	c.files[SidecarPath] = data
}

// Each row is a failure that was seen in published checkpoints, and the item that
// must catch it (docs/formats.md 16). The hashes of the manifest catch most of
// them a second time; they are the item only where nothing else can know.
func TestMutations(t *testing.T) {
	t.Parallel()
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
		{"bias that config.json denies", W4A8, func(c *contents) {
			c.tensors["model.layers.0.self_attn.q_proj.bias"] = ones(128)
		}, ItemNames, "model.layers.0.self_attn.q_proj.bias: invalid checkpoint: found 1 tensor"},
		{"layers that config.json does not count", W4A8, func(c *contents) {
			c.replace(configPath, `"num_hidden_layers": 2`, `"num_hidden_layers": 1`)
		}, ItemNames, "config.json num_hidden_layers"},
		{"weight beside weight_packed", W4A8, func(c *contents) {
			c.tensors[up+".weight"] = ones(128, 128)
		}, ItemNames, up + ".weight: found a stray tensor"},
		{"zero point", W4A8, func(c *contents) {
			c.tensors[up+".weight_zero_point"] = part{tensor.I32, []int{16, 1}, make([]byte, 64)}
		}, ItemNames, "weight_zero_point"},
		{"head beside tied embeddings", W4A8, func(c *contents) { c.tensors["lm_head.weight"] = c.tensors["model.embed_tokens.weight"] }, ItemEmbeddings, "lm_head.weight"},
		{"unquantized weight that config quantizes", W4A8, func(c *contents) {
			for _, s := range []string{packedSuffix, scaleSuffix, shapeSuffix} {
				delete(c.tensors, up+s)
			}
			c.tensors[up+".weight"] = ones(128, 128)
		}, ItemIgnore, up},
		{"quantized weight that config ignores", W4A8, func(c *contents) {
			c.replace(configPath, `"lm_head"`, `"lm_head", "`+up+`"`)
		}, ItemIgnore, up},
		{"lm_head not ignored", W4A8, func(c *contents) { c.replace(configPath, `"lm_head"`, "") }, ItemIgnore, "lm_head is missing"},
		{"weight_shape swapped", W4A8, func(c *contents) { binary.LittleEndian.PutUint64(c.tensors[up+shapeSuffix].data, 64) }, ItemShape, "[64, 128], wanted [128, 128]"},
		{"F16 scales", W4A8, func(c *contents) { p := c.tensors[up+scaleSuffix]; p.dtype = tensor.F16; c.tensors[up+scaleSuffix] = p }, ItemShapes, "F16"},
		{"scales of another group size", W4A8, func(c *contents) {
			c.tensors[up+scaleSuffix] = ones(128, 2)
		}, ItemShapes, "[128 2]"},
		{"norm of another width", W4A8, func(c *contents) {
			c.tensors["model.norm.weight"] = ones(64)
		}, ItemShapes, "model.norm.weight"},
		{"zero scale", W4A8, func(c *contents) { setScale(c, 3, 0) }, ItemScales, "element 3: found 0"},
		{"negative scale", W4A8, func(c *contents) { setScale(c, 4, 0xbf80) }, ItemScales, "element 4: found -1"},
		{"infinite scale", W4A8, func(c *contents) { setScale(c, 5, 0x7f80) }, ItemScales, "+Inf"},
		{"NaN scale", W4A8, func(c *contents) { setScale(c, 6, 0x7fc0) }, ItemScales, "NaN"},
		{"NaN in the embedding", W4A8, func(c *contents) { c.poison("model.embed_tokens.weight", 300, 0x7fc0) }, ItemFinite, "model.embed_tokens.weight"},
		{"infinity in a norm", W4A8, func(c *contents) { c.poison("model.layers.1.input_layernorm.weight", 5, 0x7f80) }, ItemFinite, "+Inf at element 5 (row 0, column 5)"},
		{"infinity in the last norm", W4A8, func(c *contents) { c.poison("model.norm.weight", 127, 0xff80) }, ItemFinite, "-Inf at element 127"},
		{"NaN in a bias", W4A8, func(c *contents) {
			c.biases()
			c.poison("model.layers.0.self_attn.q_proj.bias", 7, 0xffff)
		}, ItemFinite, "q_proj.bias"},
		{"NaN in the head", W4A8, func(c *contents) {
			c.replace(configPath, `"tie_word_embeddings": true`, `"tie_word_embeddings": false`)
			c.tensors["lm_head.weight"] = ones(96, 128)
			c.poison("lm_head.weight", 0, 0x7fc0)
		}, ItemFinite, "lm_head.weight"},
		{"another method", W4A8, func(c *contents) { c.replace(configPath, `"compressed-tensors"`, `"gptq"`) }, ItemConfig, "gptq"},
		{"not compressed", W4A8, func(c *contents) { c.replace(configPath, `"compressed"`, `"frozen"`) }, ItemConfig, "quantization_status"},
		{"format in one place", W4A8, func(c *contents) {
			c.replace(configPath, `"format": "pack-quantized",`+"\n        \"input", `"input`)
		}, ItemConfig, "config_groups.group_0.format"},
		{"cache scheme without scales", W4A8, func(c *contents) {
			c.replace(configPath, `"kv_cache_scheme": null`, `"kv_cache_scheme": {"num_bits": 8, "type": "float"}`)
		}, ItemCache, "layers.0.self_attn.k_scale: found no cache scale"},
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
		{"tensor added", W4A8, func(c *contents) { c.tensors["extra"] = ones(2) }, ItemNames, "extra: found a tensor that neither"},
		{"tensor added, by the hashes", W4A8, func(c *contents) { c.tensors["extra"] = ones(2) }, ItemHashes, "extra"},
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
		{"nibbles in another order", W4A8, func(c *contents) {
			data := c.tensors[up+packedSuffix].data
			for i, b := range data {
				data[i] = b>>4 | b<<4
			}
		}, ItemHashes, up + packedSuffix},
		{"two's complement nibbles", W4A8, func(c *contents) {
			data := c.tensors[up+packedSuffix].data
			for i, b := range data {
				data[i] = b ^ 0x88
			}
		}, ItemHashes, up + packedSuffix},
		{"packed along the other axis", W4A8, func(c *contents) {
			p := c.tensors[up+packedSuffix]
			p.shape = []int{16, 128}
			c.tensors[up+packedSuffix] = p
		}, ItemShapes, "[16 128]"},
		{"scales of two layers exchanged", W4A8, func(c *contents) {
			const gate = "model.layers.0.mlp.gate_proj"
			c.tensors[up+scaleSuffix], c.tensors[gate+scaleSuffix] = c.tensors[gate+scaleSuffix], c.tensors[up+scaleSuffix]
		}, ItemHashes, up + scaleSuffix},
		{"weight_shape transposed", W4A8, func(c *contents) {
			const down = "model.layers.0.self_attn.k_proj"
			d := c.tensors[down+shapeSuffix].data
			slices.Reverse(d)
			for i := 0; i < 16; i += 8 {
				slices.Reverse(d[i : i+8])
			}
		}, ItemShape, "[128, 64], wanted [64, 128]"},
		{"weight_shape missing", W4A8, func(c *contents) { delete(c.tensors, up+shapeSuffix) }, ItemNames, up + shapeSuffix},
		{"g_idx", W4A8, func(c *contents) { c.tensors[up+".weight_g_idx"] = part{tensor.I32, []int{128}, make([]byte, 512)} }, ItemNames, "weight_g_idx"},
		{"static activation scale", W4A8, func(c *contents) { c.tensors[up+".input_scale"] = ones(1) }, ItemNames, "input_scale"},
		{"quantization_status dropped", W4A8, func(c *contents) { c.replace(configPath, `"quantization_status": "compressed",`, "") }, ItemConfig, `quantization_status: found "", wanted "compressed"`},
		{"formats of group and top differ", W4A8, func(c *contents) {
			c.replace(configPath, `"format": "pack-quantized",`+"\n        \"input", `"format": "int-quantized",`+"\n        \"input")
		}, ItemConfig, "int-quantized"},
		{"no format at the top", W4A8, func(c *contents) {
			c.replace(configPath, `"format": "pack-quantized",`+"\n    \"global", `"global`)
		}, ItemConfig, "quantization_config.format"},
		{"transforms that runtimes drop", W4A8, func(c *contents) {
			c.replace(configPath, `"transform_config": {}`, `"transform_config": {"config_groups": {"R4": {}}}`)
		}, ItemConfig, "transform_config"},
		{"A8 typed int", W4A8, func(c *contents) {
			text := string(c.files[configPath])
			c.files[configPath] = []byte(strings.Replace(text, `"type": "float"`, `"type": "int"`, 1))
		}, ItemConfig, "activations int8 token"},
		{"static activations", W4A8, func(c *contents) {
			c.replace(configPath, `"strategy": "token"`, `"strategy": "tensor"`)
		}, ItemConfig, "activations float8 tensor"},
		{"observer of a dynamic scale", W4A8, func(c *contents) {
			text := string(c.files[configPath])
			c.files[configPath] = []byte(strings.Replace(text, `"observer": null`, `"observer": "minmax"`, 1))
		}, ItemConfig, "observer: found minmax, wanted null"},
		{"group size of a per-token scale", W4A8, func(c *contents) {
			c.replace(configPath, `"group_size": null`, `"group_size": 128`)
		}, ItemConfig, "null for strategy token"},
		{"unknown key in the args", W4A8, func(c *contents) { c.replace(configPath, `"num_bits": 4`, `"num_bits": 4, "bits": 4`) }, ItemConfig, `"bits"`},
		{"asymmetric", W4A8, func(c *contents) { c.replace(configPath, `"symmetric": true`, `"symmetric": false`) }, ItemConfig, "wanted pack-quantized symmetric"},
		{"groups reordered", W4A8, func(c *contents) {
			c.files[configPath] = []byte(regexp.MustCompile(`"actorder": null,(\s+"block_structure": null,\s+"dynamic": false)`).ReplaceAllString(string(c.files[configPath]), `"actorder": "group",$1`))
			if !strings.Contains(string(c.files[configPath]), `"actorder": "group"`) {
				panic("nothing replaced")
			}
		}, ItemConfig, "wanted pack-quantized"},
		{"group size of another checkpoint", W4A8, func(c *contents) { c.replace(configPath, `"group_size": 128`, `"group_size": 64`) }, ItemShapes, "[128 2]"},
		{"ignored expression for one shard", W4A8, func(c *contents) {
			c.replace(configPath, `"lm_head"`, `"lm_head", "re:.*v_proj$"`)
		}, ItemFused, "qkv_proj: found q_proj w4a8 group 128 and v_proj not quantized"},
		{"merged layer ignored by its own name", W4A8, func(c *contents) {
			c.replace(configPath, `"Linear"`, `"re:.*(q|k|v|o|gate|up|down)_proj$", "re:.*qkv_proj$"`)
			c.replace(configPath, `"lm_head"`, `"model.layers.0.self_attn.qkv_proj"`)
		}, ItemFused, "qkv_proj: vLLM"},
		{"up without gate", W4A8, func(c *contents) {
			c.replace(configPath, `"lm_head"`, `"lm_head", "`+up+`"`)
			for _, s := range []string{packedSuffix, scaleSuffix, shapeSuffix} {
				delete(c.tensors, up+s)
			}
			c.tensors[up+".weight"] = ones(128, 128)
		}, ItemFused, "gate_up_proj: found gate_proj w4a8 group 128 and up_proj not quantized"},
		{"router quantized by an unknown name", W4A8, func(c *contents) {
			c.tensors["model.layers.0.mlp.gate"+packedSuffix] = part{tensor.I32, []int{8, 16}, make([]byte, 512)}
		}, ItemNames, "model.layers.0.mlp.gate"},
		{"cache scales without a scheme", W4A8, func(c *contents) {
			c.tensors["model.layers.1.self_attn.k_scale"] = ones(1)
		}, ItemCache, "layers.1.self_attn.k_scale: found a cache scale"},
		{"one cache scale missing", W4A8, func(c *contents) {
			cached(c)
			delete(c.tensors, "model.layers.1.self_attn.v_scale")
		}, ItemCache, "model.layers.1.self_attn.v_scale: found no cache scale"},
		{"cache scale zero", W4A8, func(c *contents) {
			cached(c)
			c.tensors["model.layers.0.self_attn.k_scale"] = part{tensor.F32, []int{1}, make([]byte, 4)}
		}, ItemCache, "found 0, wanted a finite positive scale"},
		{"cache scales of two", W4A8, func(c *contents) {
			cached(c)
			c.tensors["model.layers.0.self_attn.k_scale"] = ones(2)
		}, ItemCache, "found BF16 [2], wanted F32 [1]"},
		{"cache scale of integers", W4A8, func(c *contents) {
			cached(c)
			c.tensors["model.layers.1.self_attn.v_scale"] = part{tensor.I32, []int{1}, make([]byte, 4)}
		}, ItemCache, "found I32 [1], wanted F32 [1]"},
		{"cache scale negative", W4A8, func(c *contents) {
			cached(c)
			c.tensors["model.layers.0.self_attn.v_scale"] = bf16Part([]int{1}, func(int) float32 { return -1 })
		}, ItemCache, "found -1, wanted a finite positive scale"},
		{"cache scale that is not the sidecar's", W4A8, func(c *contents) {
			cached(c)
			c.sidecar(Sidecar{KV: KVScheme{Format: KVFP8}, KScales: []float32{1, 1}, VScales: []float32{1, 2}})
		}, ItemCache, "found [1], wanted [2], as in " + SidecarPath},
		{"cache scheme beside a sidecar without one", W4A8, func(c *contents) {
			cached(c)
			c.sidecar(Sidecar{KV: KVScheme{Format: KVInt4}})
		}, ItemCache, "found an FP8 cache of 2 layers, wanted null"},
		{"cache scheme beside smoothed keys", W4A8, func(c *contents) {
			cached(c)
			c.sidecar(Sidecar{KV: KVScheme{Format: KVFP8}, KScales: []float32{1, 1}, VScales: []float32{1, 1}, KeyMeans: [][]float32{{1}, {1}}})
		}, ItemCache, "found an FP8 cache of 2 layers, wanted null"},
		{"cache in the second configuration only", W4A8, func(c *contents) {
			c.replace(weightOnlyPath, `"kv_cache_scheme": null`, `"kv_cache_scheme": {"num_bits": 8, "type": "float"}`)
		}, ItemVariant, "kv_cache_scheme"},
		{"rotation at run time that others do not refuse", W4A8, func(c *contents) {
			c.sidecar(Sidecar{Down: DownHadamard})
		}, ItemPrivate, "config_groups.group_0.weights: found no only_for_quantize_runtime"},
		{"refused by others without a rotation", W4A8, func(c *contents) {
			for _, f := range []string{configPath, weightOnlyPath} {
				c.replace(f, `"num_bits": 4`, `"num_bits": 4, "only_for_quantize_runtime": "rotated"`)
			}
		}, ItemPrivate, "found only_for_quantize_runtime, wanted none"},
		{"refused by others in one configuration", W4A8, func(c *contents) {
			c.sidecar(Sidecar{Down: DownHadamard})
			c.replace(configPath, `"num_bits": 4`, `"num_bits": 4, "only_for_quantize_runtime": "rotated"`)
		}, ItemVariant, "only_for_quantize_runtime"},
		{"cache in INT8", W4A8, func(c *contents) {
			cached(c)
			c.replace(configPath, `"kv_cache_scheme": {"num_bits": 8, "type": "float"}`, `"kv_cache_scheme": {"num_bits": 8, "type": "int"}`)
		}, ItemCache, "int8 tensor"},
		{"head missing", W4A8, func(c *contents) {
			for _, f := range []string{configPath, weightOnlyPath} {
				c.replace(f, `"tie_word_embeddings": true`, `"tie_word_embeddings": false`)
			}
		}, ItemEmbeddings, "lm_head.weight: found no head"},
		{"rotated and tied", W4A8, func(c *contents) {
			c.replace(ManifestPath, `"recipe": "scheme: test\n"`, `"recipe": "name: r\nscheme: W4A8_FP8\nrotation: {residual: hadamard}\nweights: {rounding: rtn}\nignore: [lm_head]\nkv: {format: none}\n"`)
		}, ItemEmbeddings, "found true after rotation hadamard"},
		{"tensor of the source lost", W4A8, func(c *contents) {
			c.replace(ManifestPath, `"sources": {`, `"sources": {"model.layers.2.mtp.weight": "`+strings.Repeat("00", 32)+`",`)
		}, ItemOrigin, "model.layers.2.mtp.weight"},
		{"copied norm that is not the source's", W4A8, func(c *contents) {
			c.tensors["model.norm.weight"] = ones(128)
			c.signed(plainRecipe, "model.norm.weight")
		}, ItemOrigin, "model.norm.weight: found sha256"},
		{"unknown tensor that is not the source's, after a rotation", W4A8, func(c *contents) {
			c.tensors["extra"] = ones(2)
			c.replace(ManifestPath, `"sources": {`, `"sources": {"extra": "`+strings.Repeat("00", 32)+`",`)
			c.signed(plainRecipe+"rotation: {values: hadamard}\n", "extra")
		}, ItemOrigin, "extra: found sha256"},
		{"tokenizer changed", W4A8, func(c *contents) { c.files["tokenizer.json"] = []byte("{ }") }, ItemHashes, "tokenizer.json"},
		{"tokenizer lost", W4A8, func(c *contents) { delete(c.files, "tokenizer.json") }, ItemHashes, "tokenizer.json"},
		{"FP8 codes of another width", FP8, func(c *contents) {
			p := c.tensors[up+weightSuffix]
			p.dtype = tensor.U8
			c.tensors[up+weightSuffix] = p
		}, ItemShapes, "U8"},
		{"FP8 flat scale", FP8, func(c *contents) { p := c.tensors[up+scaleSuffix]; p.shape = []int{128}; c.tensors[up+scaleSuffix] = p }, ItemShapes, "[128]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
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

// Scales that runtimes would move. A row of one group always reloads, so these
// rows have two.
func TestMutationsOfScales(t *testing.T) {
	t.Parallel()
	const up = "model.layers.0.mlp.up_proj"
	original := exported(t, W4A8, 256, GridLUT)
	at := func(s []byte, i int) float32 { return tensor.BF16Value(binary.LittleEndian.Uint16(s[2*i:])) }
	set := func(s []byte, i int, v float32) { binary.LittleEndian.PutUint16(s[2*i:], tensor.BF16Bits(v)) }
	for name, change := range map[string]func(scales []byte){
		"one bit of one group": func(s []byte) { s[0] ^= 1 },
		"amax/7 of each group": func(s []byte) {
			for i := range len(s) / 2 {
				set(s, i, 0.01*(1+float32(i%37)/40))
			}
		},
		"no group at s8 = 448": func(s []byte) {
			for row := range len(s) / 4 { // the largest of each row to s8 = 416
				i := 2 * row
				if at(s, i+1) > at(s, i) {
					i++
				}
				set(s, i, at(s, i)/448*416)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &contents{maps.Clone(original.tensors), original.files}
			p := c.tensors[up+scaleSuffix]
			p.data = bytes.Clone(p.data)
			change(p.data)
			c.tensors[up+scaleSuffix] = p
			if v := mustVerify(t, c.write(t)); v.OK || !fails(v, ItemGrid, up) {
				t.Errorf("%+v", v)
			}
		})
	}
}

// writeShards stores c in shards of so many bytes.
func (c *contents) writeShards(t testing.TB, bytes int64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkpoint")
	var infos []checkpoint.Info
	for name, p := range c.tensors {
		infos = append(infos, checkpoint.Info{Name: name, DType: p.dtype, Shape: p.shape})
	}
	w, err := checkpoint.Create(dir, infos, checkpoint.WriterOptions{ShardBytes: bytes})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range c.tensors {
		if err := w.Add(name, p.data); err != nil {
			t.Fatal(err)
		}
	}
	for rel, data := range c.files {
		if err := w.File(rel, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Damage to the directory, of a checkpoint in several shards.
func TestMutationsOfFiles(t *testing.T) {
	t.Parallel()
	const second, index = "model-00002-of-00003.safetensors", "model.safetensors.index.json"
	edit := func(file string, change func(string) string) func(dir string) error {
		return func(dir string) error {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			changed := change(string(data))
			if changed == string(data) {
				return fmt.Errorf("%s: nothing changed", file)
			}
			return os.WriteFile(filepath.Join(dir, file), []byte(changed), 0o600)
		}
	}
	swap := func(old, by string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, by, 1) }
	}
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		item   string
		says   string
	}{
		{"shard missing", func(dir string) error { return os.Remove(filepath.Join(dir, second)) }, ItemStructure, second},
		{"shard cut", func(dir string) error { return os.Truncate(filepath.Join(dir, second), 5000) }, ItemStructure, second},
		{"bytes behind a shard", edit(second, func(s string) string { return s + "x" }), ItemStructure, second},
		{"shards exchanged", func(dir string) error {
			third := strings.Replace(second, "00002-of", "00003-of", 1)
			for _, m := range [][2]string{{second, "x"}, {third, second}, {"x", third}} {
				if err := os.Rename(filepath.Join(dir, m[0]), filepath.Join(dir, m[1])); err != nil {
					return err
				}
			}
			return nil
		}, ItemStructure, "00002-of-00003"},
		{"stale shard of an earlier export", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "model-00004-of-00004.safetensors"), []byte("x"), 0o600)
		}, ItemFiles, "model-00004-of-00004.safetensors: found weights that belong to no shard"},
		{"weights of the source beside it", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), nil, 0o600)
		}, ItemFiles, "pytorch_model.bin"},
		{"total_size", edit(index, func(s string) string {
			return regexp.MustCompile(`"total_size": \d+`).ReplaceAllString(s, `"total_size": 7`)
		}), ItemIndex, "found 7"},
		{"no total_size", edit(index, func(s string) string { return strings.Replace(s, "total_size", "size", 1) }), ItemIndex, "found none"},
		{"no framework in a shard", edit(second, swap(`{"format":"pt"}`, `{"form":"ptpt"}`)), ItemIndex, `found ""`},
		{"index names a tensor that is nowhere", edit(index, swap("model.norm.weight", "model.gnorm.weight")), ItemStructure, "norm.weight"},
		{"index that is no JSON", edit(index, swap("{", "[")), ItemStructure, index},
		{"config that is no JSON", edit(configPath, swap("{", "[")), ItemConfig, configPath},
		{"manifest of another version", edit(ManifestPath, swap(`"manifest_version": 1`, `"manifest_version": 2`)), ItemHashes, "manifest_version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := damageable(t, W4A8, GridLUT).writeShards(t, 60_000)
			if _, err := os.Stat(filepath.Join(dir, second)); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			if v := mustVerify(t, dir); v.OK || !fails(v, c.item, c.says) {
				text, _ := json.MarshalIndent(v, "", "  ")
				t.Errorf("wanted %s to say %q: %s", c.item, c.says, text)
			}
		})
	}
}

// The controls: what is not broken passes.
func TestMutationControls(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(c *contents){
		"nothing":   func(*contents) {},
		"FP8 cache": cached,
		"a norm that a transform may have changed": func(c *contents) {
			c.tensors["model.norm.weight"] = ones(128)
			c.signed(plainRecipe+"rotation: {values: hadamard}\n", "model.norm.weight")
		},
		"a file of the user's": func(c *contents) {
			c.files["notes.txt"] = []byte("mine")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := damageable(t, W4A8, GridLUT)
			change(c)
			for _, check := range mustVerify(t, c.write(t)).Checks {
				if hashes := check.Item == ItemHashes && name == "FP8 cache"; !check.OK && !hashes {
					t.Errorf("%s: %s", check.Item, check.Detail)
				}
			}
			if name == "nothing" {
				demandOK(t, c.writeShards(t, 60_000))
			}
		})
	}
}
