package packer

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The written object, byte for byte, is the one that vLLM and transformers were
// seen to load.
const w4a8JSON = `{
  "config_groups": {
    "group_0": {
      "format": "pack-quantized",
      "input_activations": {
        "actorder": null,
        "block_structure": null,
        "dynamic": true,
        "group_size": null,
        "num_bits": 8,
        "observer": null,
        "observer_kwargs": {},
        "strategy": "token",
        "symmetric": true,
        "type": "float"
      },
      "output_activations": null,
      "targets": [
        "Linear"
      ],
      "weights": {
        "actorder": null,
        "block_structure": null,
        "dynamic": false,
        "group_size": 128,
        "num_bits": 4,
        "observer": "minmax",
        "observer_kwargs": {},
        "strategy": "group",
        "symmetric": true,
        "type": "int"
      }
    }
  },
  "format": "pack-quantized",
  "global_compression_ratio": null,
  "ignore": [
    "lm_head"
  ],
  "kv_cache_scheme": null,
  "quant_method": "compressed-tensors",
  "quantization_status": "compressed",
  "sparsity_config": {},
  "transform_config": {},
  "version": "0.14.0"
}`

func TestSchemeConfigBytes(t *testing.T) {
	got, err := json.MarshalIndent(W4A8.Config(128, []string{"lm_head"}), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w4a8JSON, string(got)); d != "" {
		t.Error(d)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	for _, s := range []Scheme{W4A8, W4A16, FP8} {
		want := s.Config(64, []string{"lm_head"})
		file, err := WithQuantizationConfig([]byte(`{"model_type": "llama"}`), want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseQuantizationConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		if s != FP8 && *got.ConfigGroups["group_0"].Weights.GroupSize != 64 {
			t.Errorf("%v: group size lost", s)
		}
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if d := cmp.Diff(string(a), string(b)); d != "" {
			t.Errorf("%v: %s", s, d)
		}
	}
}

func TestWithQuantizationConfigKeepsTheRest(t *testing.T) {
	q := FP8.Config(0, nil)
	source := "{\n    \"zeta\": 1.0e-5, \"architectures\":[ \"X\" ],\n    \"eps\": 9.999999747378752e-06\n}\n"
	added, err := WithQuantizationConfig([]byte(source), q)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(added), source[:len(source)-3]+",\n  \"quantization_config\": {\n    \"config_groups\"") || !strings.HasSuffix(string(added), "\n  }\n}\n") {
		t.Errorf("added:\n%s", added)
	}
	replaced, err := WithQuantizationConfig(added, W4A16.Config(32, nil))
	if err != nil {
		t.Fatal(err)
	}
	again, err := WithQuantizationConfig(replaced, q)
	if err != nil || !bytes.Equal(again, added) {
		t.Errorf("replacing twice: %v\n%s", err, again)
	}
	empty, err := WithQuantizationConfig([]byte("{}"), q)
	if err != nil || !json.Valid(empty) {
		t.Errorf("into an empty object: %v\n%s", err, empty)
	}
	for _, bad := range []string{"", "[]", "{", `{"a":1}{`, "null"} {
		if _, err := WithQuantizationConfig([]byte(bad), q); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseQuantizationConfigRefuses(t *testing.T) {
	edit := func(old, replacement string) string {
		s := `{"quantization_config": ` + strings.Replace(w4a8JSON, old, replacement, 1) + `}`
		if old != "" && !strings.Contains(w4a8JSON, old) {
			t.Fatalf("nothing to edit: %q", old)
		}
		return s
	}
	for name, c := range map[string]struct{ json, says string }{
		"not JSON":               {`{"quantization_config": `, "config.json"},
		"another method":         {edit(`"compressed-tensors"`, `"gptq"`), `found "gptq"`},
		"unknown key in args":    {edit(`"num_bits": 8`, `"num_bits": 8, "bits": 8`), `"bits"`},
		"unknown key in a group": {edit(`"output_activations"`, `"outputs"`), `"outputs"`},
		"unknown format":         {edit(`"format": "pack-quantized"`, `"format": "packed"`), "packed"},
		"unknown strategy":       {edit(`"token"`, `"tokens"`), "tokens"},
		"static tokens":          {edit(`"dynamic": true`, `"dynamic": false`), "strategy token"},
		"group without a size":   {edit(`"group_size": 128`, `"group_size": null`), "positive number for strategy group"},
		"size without a group":   {edit(`"group_size": null`, `"group_size": 128`), "null for strategy token"},
		"three float bits":       {edit(`"num_bits": 8`, `"num_bits": 3`), "type float"},
		"dynamic maybe":          {edit(`"dynamic": true`, `"dynamic": "maybe"`), "maybe"},
		"bad expression":         {edit(`"Linear"`, `"re:("`), "targets"},
		"no targets":             {edit("\"targets\": [\n        \"Linear\"\n      ]", `"targets": []`), "targets"},
		"mixed inside a group":   {edit(`"format": "pack-quantized"`, `"format": "mixed-precision"`), "one group"},
		"groups as a list":       {`{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": []}}`, "compressed-tensors"},
	} {
		q, err := ParseQuantizationConfig([]byte(c.json))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
	if q, err := ParseQuantizationConfig([]byte(`{"quantization_config": null}`)); q != nil || err != nil {
		t.Errorf("none: %v, %v", q, err)
	}
	lenient := edit(`"version"`, `"new_key": 1, "version"`)
	if q, err := ParseQuantizationConfig([]byte(lenient)); err != nil || q == nil {
		t.Errorf("unknown key at the top: %v", err)
	}
	if q, err := ParseQuantizationConfig([]byte(strings.Replace(lenient, "quantization_config", "compression_config", 1))); err != nil || q == nil {
		t.Errorf("vLLM's older key: %v", err)
	}
}

func TestConfigScheme(t *testing.T) {
	group := func(targets ...string) *QuantizationScheme {
		return &QuantizationScheme{Targets: targets, Format: FormatPackQuantized}
	}
	linear, attn, exact := group("Linear"), group(`re:.*self_attn\.(q|k)_proj$`), group("model.layers.1.mlp.up_proj")
	q := &QuantizationConfig{
		ConfigGroups: map[string]*QuantizationScheme{"group_0": linear, "group_1": attn, "group_2": exact},
		Ignore:       []string{"lm_head", `re:model\.layers\.2\.`, "re:mlp"},
	}
	for module, want := range map[string]*QuantizationScheme{
		"lm_head":                         nil,
		"model.layers.2.mlp.up_proj":      nil,
		"model.layers.0.self_attn.q_proj": attn,
		"model.layers.0.self_attn.v_proj": linear,
		"model.layers.1.mlp.up_proj":      exact,
		"model.layers.0.mlp.up_proj":      linear, // "re:mlp" is anchored at the start
	} {
		if got, err := q.Scheme(module); err != nil || got != want {
			t.Errorf("%s: %v, %v", module, got, err)
		}
	}
	q.ConfigGroups["group_3"] = group("re:.*q_proj")
	if _, err := q.Scheme("model.layers.0.self_attn.q_proj"); !errors.Is(err, ErrInvalid) {
		t.Errorf("two groups: %v", err)
	}
}

func TestChooseGroupSize(t *testing.T) {
	smol := []LinearShape{{"q_proj", 576, 576}, {"down_proj", 576, 1536}}
	for _, c := range []struct {
		name    string
		linears []LinearShape
		wanted  int
		got     int
		says    string
	}{
		{"576 by itself", smol, 0, 64, ""},
		{"128 divides all", []LinearShape{{"a", 8, 896}, {"b", 8, 4864}}, 0, 128, ""},
		{"32 only", []LinearShape{{"a", 8, 96}}, 0, 32, ""},
		{"nothing divides", []LinearShape{{"a", 8, 100}}, 0, 0, "a with 100 input features"},
		{"128 of 576", smol, 128, 0, "q_proj with 576 input features, wanted input features divisible by 128 (use group_size: auto, which takes 64)"},
		{"64 of 576", smol, 64, 64, ""},
		{"16", smol, 16, 0, "128, 64 or 32"},
		{"many layers", []LinearShape{{"a", 1, 33}, {"b", 1, 33}, {"c", 1, 33}, {"d", 1, 33}, {"e", 1, 33}}, 32, 0, "and 1 more"},
	} {
		got, err := ChooseGroupSize(c.linears, c.wanted)
		if got != c.got || (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrOption) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}

func TestRuntimes(t *testing.T) {
	block := func(hidden, kv, inter int) []LinearShape {
		return []LinearShape{
			{"l.q_proj", hidden, hidden},
			{"l.k_proj", kv, hidden},
			{"l.v_proj", kv, hidden},
			{"l.o_proj", hidden, hidden},
			{"l.gate_proj", inter, hidden},
			{"l.up_proj", inter, hidden},
			{"l.down_proj", hidden, inter},
		}
	}
	for _, c := range []struct {
		name string
		s    Scheme
		g    int
		ls   []LinearShape
		says []string
	}{
		{"fused k and v of 64 rows", W4A8, 128, block(512, 64, 1024), []string{"Hopper (SM90) only", "Machete", "transformers"}},
		{"SmolLM2", W4A16, 64, block(576, 192, 1536), []string{"Marlin from Turing", "transformers"}},
		{"N of 192 under W4A8", W4A8, 128, block(192, 64, 384), []string{"does not load, N and K must be multiples of 128, unlike qkv_proj (320x192)", "Marlin", "transformers"}},
		{"odd N", W4A16, 32, block(96, 32, 96), []string{"slower kernels", "transformers"}},
		{"FP8", FP8, 0, block(96, 32, 96), []string{"SM89", "transformers"}},
	} {
		got := Runtimes(c.s, c.g, c.ls)
		if len(got) != len(c.says) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], c.says[i]) {
				t.Errorf("%s: %q lacks %q", c.name, got[i], c.says[i])
			}
		}
	}
}

func FuzzParseQuantizationConfig(f *testing.F) {
	f.Add([]byte(`{"quantization_config": ` + w4a8JSON + `}`))
	f.Add([]byte(`{"compression_config": {"quant_method": "compressed-tensors", "config_groups": {"a": null}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := ParseQuantizationConfig(data)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("untyped error %v", err)
		}
		if q == nil {
			return
		}
		if _, err := q.Scheme("model.layers.0.mlp.up_proj"); err != nil && !errors.Is(err, ErrInvalid) {
			t.Fatalf("untyped error %v", err)
		}
		again, err := WithQuantizationConfig(data, q)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := ParseQuantizationConfig(again); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, again)
		}
	})
}

// An edit would be of the first, and parsers take the last.
func TestRepeatedKeysAreRefused(t *testing.T) {
	for _, source := range []string{
		`{"a": 1, "a": 2}`,
		`{"quantization_config": null, "b": 0, "quantization_config": null}`,
		`{"quantization_config": {"quant_method": "gptq", "quant_method": "compressed-tensors"}}`,
		`{"rope_scaling": {"factor": 2, "factor": 4}}`,
	} {
		_, parse := ParseQuantizationConfig([]byte(source))
		_, replace := WithQuantizationConfig([]byte(source), FP8.Config(0, nil))
		_, remove := ReplaceQuantizationConfig([]byte(source), nil)
		_, member := withMember([]byte(source), "tie_word_embeddings", []byte("false"))
		for _, err := range []error{parse, replace, remove, member} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "twice in one object") {
				t.Errorf("%s: %v", source, err)
			}
		}
	}
}

func TestRemoveQuantizationConfig(t *testing.T) {
	for source, want := range map[string]string{
		`{"a": 1, "quantization_config": {"b": [1, 2]}, "c": 3}`: `{"a": 1, "c": 3}`,
		`{"a": 1, "quantization_config": {}}`:                    `{"a": 1}`,
		`{"quantization_config": {"x": ","}, "c": 3}`:            `{ "c": 3}`,
		`{ "quantization_config": null }`:                        `{}`,
		`{"a": "quantization_config"}`:                           `{"a": "quantization_config"}`,
	} {
		got, err := ReplaceQuantizationConfig([]byte(source), nil)
		if err != nil || string(got) != want || !json.Valid(got) {
			t.Errorf("%s: %s, %v", source, got, err)
		}
	}
	if _, err := ReplaceQuantizationConfig([]byte("[]"), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("an array: %v", err)
	}
}
