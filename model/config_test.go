package model_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/checkpoint"
	"quantize/internal/alloc"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// edited returns the config of a small Llama with fields replaced; a field set
// to absent is left out.
func edited(t *testing.T, family string, fields map[string]any) []byte {
	t.Helper()
	s := modeltest.Shapes()[0]
	s.Family = family
	if family == "qwen3_moe" {
		s.Config = map[string]any{"moe_intermediate_size": 16}
	}
	var c map[string]any
	if err := json.Unmarshal(s.JSON(), &c); err != nil {
		t.Fatal(err)
	}
	maps.Copy(c, fields)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == absent })
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const absent = "absent"

func TestBothSpellingsMeanTheSame(t *testing.T) {
	yarn := map[string]any{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
	inside := maps.Clone(yarn)
	inside["rope_theta"] = 5e5
	older, err := model.ParseConfig(edited(t, "llama", map[string]any{"rope_theta": 5e5, "rope_scaling": yarn}))
	if err != nil {
		t.Fatal(err)
	}
	newer, err := model.ParseConfig(edited(t, "llama", map[string]any{
		"torch_dtype": absent, "dtype": "bfloat16", "rope_parameters": inside,
	}))
	if err != nil {
		t.Fatal(err)
	}
	both, err := model.ParseConfig(edited(t, "llama", map[string]any{
		"dtype": "bfloat16", "rope_theta": 5e5, "rope_scaling": yarn, "rope_parameters": inside,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(older, newer); d != "" {
		t.Errorf("older and newer spelling differ:\n%s", d)
	}
	if d := cmp.Diff(older, both); d != "" {
		t.Errorf("both at once differ:\n%s", d)
	}
	if older.DType != tensor.BF16 || older.Rope.Theta != 5e5 || older.Rope.Factor != 4 {
		t.Errorf("dtype %v, rope %+v", older.DType, older.Rope)
	}
}

func TestAbsentFieldsMeanWhatTransformersSays(t *testing.T) {
	drop := func(names ...string) map[string]any {
		m := map[string]any{}
		for _, n := range names {
			m[n] = absent
		}
		return m
	}
	for _, tc := range []struct {
		name, family string
		fields       map[string]any
		got          func(*model.Config) int
		want         int
	}{
		{"llama has as many KV heads as heads", "llama", drop("num_key_value_heads"), func(c *model.Config) int { return c.KVHeads }, 4},
		{"a null KV head count means no grouping", "mistral", map[string]any{"num_key_value_heads": nil}, func(c *model.Config) int { return c.KVHeads }, 4},
		{"mistral has 8 KV heads", "mistral", map[string]any{"num_key_value_heads": absent, "num_attention_heads": 8}, func(c *model.Config) int { return c.KVHeads }, 8},
		{"head size is hidden / heads", "llama", drop("head_dim"), func(c *model.Config) int { return c.HeadDim }, 8},
		{"qwen3 heads have 128 channels", "qwen3", drop("head_dim"), func(c *model.Config) int { return c.HeadDim }, 128},
		{"mistral slides over 4096", "mistral", drop("sliding_window"), func(c *model.Config) int { return c.Window(0) }, 4096},
		{"a null window is none", "mistral", map[string]any{"sliding_window": nil}, func(c *model.Config) int { return c.Window(0) }, 0},
		{"qwen2 ignores its window unless used", "qwen2", map[string]any{"sliding_window": 8, "max_window_layers": 0}, func(c *model.Config) int { return c.Window(1) }, 0},
		{"qwen2 slides from max_window_layers on", "qwen2", map[string]any{"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1}, func(c *model.Config) int { return 10*c.Window(0) + c.Window(1) }, 8},
		{"model_type alone names the architecture", "qwen2", drop("architectures"), func(c *model.Config) int { return len(c.Arch.Name) }, len("Qwen2ForCausalLM")},
		{"mixtral has no window", "mixtral", map[string]any{"sliding_window": absent}, func(c *model.Config) int { return c.Window(0) }, 0},
		{"mixtral has 8 experts", "mixtral", nil, func(c *model.Config) int { return 10*c.Experts + c.ExpertsPerToken }, 82},
		{"mixtral's base is a million", "mixtral", nil, func(c *model.Config) int { return int(c.Rope.Theta) }, 1e6},
		{"mixtral's shares sum to 1", "mixtral", nil, func(c *model.Config) int { return map[bool]int{true: 1}[c.NormTopK] }, 1},
		{"qwen3_moe's do not unless it says so", "qwen3_moe", nil, func(c *model.Config) int { return map[bool]int{true: 1}[c.NormTopK] }, 0},
		{"transformers 5 saves num_experts under another name", "qwen3_moe", map[string]any{"num_local_experts": 6, "num_experts_per_tok": 2}, func(c *model.Config) int { return c.Experts }, 6},
		{"qwen3_moe has experts in every step-th layer", "qwen3_moe", map[string]any{"decoder_sparse_step": 2}, func(c *model.Config) int { return len(c.Linears(0))*1000 + len(c.Linears(1)) }, 7*1000 + 4 + 3*128},
		{"Qwen3-Coder says that it has norms of q and k and no biases", "qwen3_moe", map[string]any{"use_qk_norm": true, "qkv_bias": false}, func(c *model.Config) int { return map[bool]int{true: 1}[c.AttentionBias] }, 0},
		{"an empty rope_scaling is none", "llama", map[string]any{"rope_scaling": map[string]any{}}, func(c *model.Config) int { return int(c.Rope.Theta) }, 10000},
		{"harmless and null fields pass", "llama", map[string]any{"_attn": 1, "temperature": 0.7, "quantization_config": map[string]any{}, "from_the_future": nil}, func(c *model.Config) int { return c.Layers }, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := model.ParseConfig(edited(t, tc.family, tc.fields))
			if err != nil {
				t.Fatal(err)
			}
			if got := tc.got(c); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

// TestWhatChangesTheMathsIsRefused demands that the error names the field.
func TestWhatChangesTheMathsIsRefused(t *testing.T) {
	scaling := func(kv ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return map[string]any{"rope_scaling": m}
	}
	for _, tc := range []struct {
		name, family string
		fields       map[string]any
		say          string
	}{
		{"unknown architecture lists the known", "llama", map[string]any{"architectures": []string{"GemmaForCausalLM"}}, "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, MixtralForCausalLM, Qwen3MoeForCausalLM"},
		{"architecture and model_type disagree", "llama", map[string]any{"model_type": "qwen2"}, "model_type"},
		{"another activation", "llama", map[string]any{"hidden_act": "gelu"}, "hidden_act"},
		{"partial rotary", "llama", map[string]any{"partial_rotary_factor": 0.5}, "partial_rotary_factor"},
		{"logit scaling", "llama", map[string]any{"logit_scale": 0.25}, "logit_scale"},
		{"soft capping", "llama", map[string]any{"final_logit_softcapping": 30.0}, "final_logit_softcapping"},
		{"a field nobody knows", "llama", map[string]any{"residual_gate": 0.5}, "residual_gate"},
		{"experts", "llama", map[string]any{"num_local_experts": 8}, "num_local_experts"},
		{"a window in Llama", "llama", map[string]any{"sliding_window": 4096}, "sliding_window"},
		{"biases in Mistral", "mistral", map[string]any{"attention_bias": true}, "attention_bias"},
		{"Qwen2 without its biases", "qwen2", map[string]any{"attention_bias": false}, "attention_bias"},
		{"Qwen3 without its norms", "qwen3", map[string]any{"use_qk_norm": false}, "use_qk_norm"},
		{"dynamic rope", "llama", scaling("type", "dynamic", "factor", 2.0), `"dynamic"`},
		{"longrope", "llama", scaling("rope_type", "longrope", "factor", 2.0), `"longrope"`},
		{"rope field of another type", "llama", scaling("rope_type", "linear", "factor", 2.0, "beta_fast", 4), "beta_fast"},
		{"linear rope without a factor", "llama", scaling("rope_type", "linear"), "factor"},
		{"zero factor", "llama", scaling("rope_type", "linear", "factor", 0), "factor"},
		{"llama3 factors the wrong way round", "llama", scaling("rope_type", "llama3", "factor", 8.0, "low_freq_factor", 4.0, "high_freq_factor", 1.0), "high_freq_factor"},
		{"two bases", "llama", map[string]any{"rope_theta": 5e5, "rope_parameters": map[string]any{"rope_theta": 1e4}}, "rope_theta"},
		{"two embeddings", "llama", map[string]any{"rope_parameters": map[string]any{"rope_theta": 1e4}, "rope_scaling": map[string]any{"type": "linear", "factor": 2.0}}, "rope_scaling"},
		{"partial rotary in rope_parameters", "llama", map[string]any{"rope_parameters": map[string]any{"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"},
		{"KV heads that do not divide", "llama", map[string]any{"num_key_value_heads": 3}, "num_key_value_heads"},
		{"an odd head", "llama", map[string]any{"head_dim": 7}, "head_dim"},
		{"no hidden size", "llama", map[string]any{"hidden_size": absent}, "hidden_size"},
		{"hidden size of another kind", "llama", map[string]any{"hidden_size": "big"}, "hidden_size"},
		{"a layer count that would exhaust memory", "llama", map[string]any{"num_hidden_layers": 1 << 40}, "num_hidden_layers"},
		{"negative epsilon", "llama", map[string]any{"rms_norm_eps": -1e-5}, "rms_norm_eps"},
		{"too few layer types", "qwen2", map[string]any{"layer_types": []string{"full_attention"}}, "layer_types"},
		{"an unknown layer type", "qwen2", map[string]any{"layer_types": []string{"full_attention", "linear_attention"}}, "layer_types"},
		{"sliding without a window", "qwen2", map[string]any{"layer_types": []string{"full_attention", "sliding_attention"}}, "layer_types"},
		{"a shared expert", "qwen3_moe", map[string]any{"shared_expert_intermediate_size": 64}, "shared_expert_intermediate_size"},
		{"biases in Qwen3-MoE", "qwen3_moe", map[string]any{"qkv_bias": true}, "qkv_bias"},
		{"a sliding window with experts", "qwen3_moe", map[string]any{"use_sliding_window": true}, "use_sliding_window"},
		{"no width of an expert", "qwen3_moe", map[string]any{"moe_intermediate_size": absent}, "moe_intermediate_size"},
		{"more experts a token than there are", "mixtral", map[string]any{"num_local_experts": 4, "num_experts_per_tok": 5}, "num_experts_per_tok"},
		{"two numbers of experts", "qwen3_moe", map[string]any{"num_local_experts": 64, "num_experts": 128}, "num_experts"},
		{"leading dense layers", "qwen3_moe", map[string]any{"first_k_dense_replace": 1}, "first_k_dense_replace"},
		{"FP8 weights", "llama", map[string]any{"torch_dtype": "float8_e4m3fn"}, "dtype"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := model.ParseConfig(edited(t, tc.family, tc.fields))
			if !errors.Is(err, model.ErrConfig) || !errors.Is(err, checkpoint.ErrInvalid) {
				t.Fatalf("got %v, want ErrConfig", err)
			}
			if !strings.Contains(err.Error(), tc.say) {
				t.Errorf("%q does not name %q", err, tc.say)
			}
		})
	}
}

func TestAllFaultsAreShownAtOnce(t *testing.T) {
	_, err := model.ParseConfig(edited(t, "llama", map[string]any{"hidden_act": "gelu", "residual_gate": 1, "vocab_size": -1}))
	for _, field := range []string{"hidden_act", "residual_gate", "vocab_size"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

func TestTensorsFollowTheConfig(t *testing.T) {
	for _, s := range modeltest.Shapes() {
		t.Run(s.Name, func(t *testing.T) {
			c := modeltest.Random(1, s)
			cfg := c.Parsed()
			var names []string
			for _, e := range model.Tensors(cfg) {
				names = append(names, e.Name)
			}
			slices.Sort(names)
			if d := cmp.Diff(c.Names(), names); d != "" {
				t.Error(d)
			}
			if head := slices.Contains(names, "lm_head.weight"); head == s.Tied {
				t.Errorf("tied %v, lm_head.weight expected: %v", s.Tied, head)
			}
			biases := 0
			for _, n := range names {
				if strings.HasSuffix(n, "proj.bias") {
					biases++
				}
			}
			want := 0
			switch {
			case s.Family == "qwen2":
				want = 3
			case s.Config["mlp_bias"] == true:
				want = 7
			case s.Config["attention_bias"] == true:
				want = 4
			}
			if biases != want*s.Layers {
				t.Errorf("%d biases, want %d a layer", biases, want)
			}
		})
	}
}

func TestRepeatedKeysAreRefused(t *testing.T) {
	good := string(edited(t, "llama", nil))
	for _, more := range []string{`"num_hidden_layers": 1`, `"bos_token_id": 1, "bos_token_id": 1`, `"rope_scaling": {"factor": 2.0, "factor": 4.0, "rope_type": "linear"}`} {
		data := strings.TrimSuffix(strings.TrimSpace(good), "}") + "," + more + "}"
		if _, err := model.ParseConfig([]byte(data)); !errors.Is(err, model.ErrConfig) || !strings.Contains(err.Error(), "twice in one object") {
			t.Errorf("%s: %v", more, err)
		}
	}
}

// FuzzParseConfig holds that no config panics, and that an accepted one is
// consistent enough to list its tensors.
func FuzzParseConfig(f *testing.F) {
	for _, s := range modeltest.Shapes() {
		f.Add(s.JSON())
	}
	f.Add([]byte(`{"architectures": ["Qwen2ForCausalLM"], "rope_scaling": null, "layer_types": []}`))
	f.Add([]byte(`{"architectures": null, "model_type": 3}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *model.Config
		var err error
		if over := alloc.Check(len(data), func() { c, err = model.ParseConfig(data) }); over != nil {
			t.Fatal(over)
		}
		if err != nil {
			if !errors.Is(err, model.ErrConfig) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if c.Heads%c.KVHeads != 0 || c.HeadDim%2 != 0 || len(c.Sliding) != c.Layers || c.DType.String() == "" {
			t.Fatalf("inconsistent: %+v", c)
		}
		for _, e := range model.Tensors(c) {
			if e.Elements() <= 0 {
				t.Fatalf("%s has shape %v", e.Name, e.Shape)
			}
		}
		if inv := c.Rope.InvFreq(c.HeadDim); len(inv) != c.HeadDim/2 {
			t.Fatalf("%d frequencies", len(inv))
		}
	})
}
