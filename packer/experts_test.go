package packer

import (
	"context"
	"slices"
	"strings"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// mixtures are the sizes of the published models, and of one whose experts fit badly;
// two layers of each.
const (
	mixtral8x7B = `{"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2, "torch_dtype": "bfloat16"}`
	qwen3A3B    = `{"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true, "torch_dtype": "bfloat16"}`
	odd2880     = `{"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 2, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2, "torch_dtype": "bfloat16"}`
)

// The rule of 256 is about one expert on one GPU (docs/formats.md 5.2).
func TestRuntimeTableOfExperts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, config, runtime string
		scheme                Scheme
		group, degree         int
		loads                 bool
		say                   string
	}{
		{"8x7B whole", mixtral8x7B, "vLLM, W4A8 (", W4A8, 128, 1, true, ""},
		{"8x7B on 8: 1792 = 7 * 256", mixtral8x7B, "vLLM, W4A8 (", W4A8, 128, 8, true, ""},
		{"30B-A3B whole: 768 = 3 * 256", qwen3A3B, "vLLM, W4A8 (", W4A8, 128, 1, true, ""},
		{"30B-A3B on 2: 384 is 3 * 128 only", qwen3A3B, "vLLM, W4A8 (", W4A8, 128, 2, false, "multiples of 256, unlike gate_proj (384x2048)"},
		{"weight-only takes it", qwen3A3B, "vLLM, W4A16 (", W4A8, 128, 2, true, "Machete"},
		{"192 has no whole groups", qwen3A3B, "vLLM, W4A16 (", W4A8, 128, 4, false, "whole groups of 128, unlike down_proj (2048x192)"},
		{"hidden size in 64s, groups of 32", odd2880, "vLLM, W4A16", W4A16, 32, 1, true, "experts are not as Marlin has them, hidden size in 128s and intermediate size in 64s: w1 (2880x2880), w3 (2880x2880), w2 (2880x2880)"},
		{"and of 64", odd2880, "vLLM, W4A16", W4A16, 64, 1, true, "experts are not as Marlin has them"},
		{"intermediate size in 32s", qwen3A3B, "vLLM, W4A16", W4A16, 32, 8, true, "experts are not as Marlin has them, hidden size in 128s and intermediate size in 64s: gate_proj (96x2048), up_proj (96x2048), down_proj (2048x96)"},
		{"intermediate size in 64s", qwen3A3B, "vLLM, W4A16", W4A16, 32, 4, true, "Marlin; "},
		{"TensorRT-LLM", qwen3A3B, "TensorRT-LLM, after", W4A8, 128, 1, false, "no experts"},
		{"FP8", qwen3A3B, "vLLM, FP8", FP8, 128, 4, true, ""},
	} {
		cfg, ls := shapes(t, c.config)
		found := false
		for _, v := range RuntimeTable(cfg, c.scheme, c.group, ls) {
			if !strings.HasPrefix(v.Runtime, c.runtime) || !strings.Contains(v.GPU, "SM90") || v.TensorParallel != c.degree {
				continue
			}
			found = true
			if v.Loads != c.loads || !strings.Contains(v.Reason, c.say) {
				t.Errorf("%s: %+v", c.name, v)
			}
			// Both outputs say the same of a whole model.
			if whole := strings.Join(Runtimes(c.scheme, c.group, ls), "\n"); c.degree == 1 && strings.Contains(c.runtime, "W4A16") && !strings.Contains(whole, c.say) {
				t.Errorf("%s: %s", c.name, whole)
			}
		}
		if !found {
			t.Errorf("%s: no such row", c.name)
		}
	}
	odd := []LinearShape{{"m.0.mlp.experts.0.gate_proj", 384, 256}, {"m.0.mlp.experts.0.down_proj", 256, 384}}
	if got := Runtimes(W4A8, 128, odd)[0]; !strings.Contains(got, "experts must be multiples of 256, unlike gate_proj (384x256), down_proj (256x384)") {
		t.Error(got)
	}
}

// Every linear of every expert of a block counts as one layer.
func TestExpertsAreOneLayer(t *testing.T) {
	t.Parallel()
	for module, want := range map[string]struct {
		layer  string
		expert int
	}{
		"model.layers.0.mlp.experts.12.up_proj":         {"model.layers.0.mlp.experts", 12},
		"model.layers.3.block_sparse_moe.experts.0.w2":  {"model.layers.3.block_sparse_moe.experts", 0},
		"model.layers.0.mlp.shared_experts.gate_proj":   {"model.layers.0.mlp.shared_experts.gate_proj", -1},
		"model.layers.0.mlp.experts.gate_up_proj":       {"model.layers.0.mlp.experts.gate_up_proj", -1},
		"model.layers.0.mlp.experts.99999999999999.w1x": {"model.layers.0.mlp.experts", 99999999999999},
		"model.layers.0.mlp.up_proj":                    {"model.layers.0.mlp.up_proj", -1},
	} {
		if layer, expert := ExpertOf(module); layer != want.layer || expert != want.expert {
			t.Errorf("%s: %s, %d", module, layer, expert)
		}
	}
	modules := []string{"b.experts.0.w1", "b.experts.0.w3", "b.experts.0.w2", "b.experts.1.w1", "b.experts.1.w3", "b.experts.1.w2"}
	bad := FusedFaults(modules, func(m string) string {
		if m == "b.experts.1.w2" {
			return ""
		}
		return "int4"
	})
	if len(bad) != 1 || !strings.Contains(bad[0], "experts.0.w1 int4 and experts.1.w2 not quantized") {
		t.Errorf("%q", bad)
	}
	if names := FusedNames(modules); !slices.Equal(names, []string{"b.experts"}) {
		t.Errorf("%q", names)
	}
}

// Each expert is fitted to its own tokens, whatever its target; what is seen of it
// is told, and what nobody saw is what rounding to nearest gives.
func TestSequentialFitsEachExpert(t *testing.T) {
	t.Parallel()
	shape := modeltest.Shape{
		Name: "experts", Family: "mixtral", Hidden: 64, Intermediate: 64, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 32, Vocab: 64,
		Config: map[string]any{"num_local_experts": 8, "num_experts_per_tok": 2},
	}
	c := modeltest.Random(4, shape)
	cfg, compute := c.Parsed(), modeltest.Compute()
	for _, full := range []bool{false, true} {
		weights, err := model.Fold(cfg, c.Source(compute), compute)
		if err != nil {
			t.Fatal(err)
		}
		own, err := model.Fold(cfg, c.Source(compute), compute)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSequential(SequentialOptions{
			Weights: own, Compute: compute, Windows: calibrate.Windows(modeltest.Tokens(4, 6, cfg.Vocab), 3, 0, 0), Damp: 0.01, FullPrecision: full,
			Linear: func(w Weight, bias []float32) (model.Linear, error) {
				n, k := w.Shape()
				m := tensor.NewMatrix(n, k)
				w.Decode(m, WeightOnly)
				return compute.Linear(m, bias), nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		o := Int4Options{GroupSize: 32, Grid: GridWeightOnly}
		var layers []Layer
		for _, e := range model.Tensors(cfg) {
			if e.Kind != model.KindLinear {
				continue
			}
			w, err := weights.Matrix(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			q, layer, err := s.Quantize(context.Background(), e.Module, w, o)
			if err != nil {
				t.Fatal(err)
			}
			layer.Name, layer.N, layer.K = e.Module, e.Shape[0], e.Shape[1]
			layers = append(layers, layer)
			_, expert := ExpertOf(e.Module)
			nearest, _, err := QuantizeInt4(w, o)
			if err != nil {
				t.Fatal(err)
			}
			unseen := slices.Equal(q.(*Int4Weight).Codes, nearest.Codes)
			switch {
			case (layer.Tokens != nil) != (expert >= 0):
				t.Errorf("%s: tokens %v", e.Module, layer.Tokens)
			case expert >= 0 && ((*layer.Tokens == 0) != unseen || (layer.Fallback != "") != unseen || (layer.Method == "gptq") == unseen):
				t.Errorf("%s: %d tokens, method %q, fallback %q, as rounded to nearest: %v", e.Module, *layer.Tokens, layer.Method, layer.Fallback, unseen)
			}
		}
		table := Coverage(layers)
		if len(table) != 2 {
			t.Fatalf("%+v", table)
		}
		for _, block := range table {
			total := int64(0)
			for _, n := range block.Tokens {
				total += n
			}
			if total != 2*6 || len(block.Tokens) != 8 || block.Unreached == 0 || block.Unreached+block.Starved != 8 {
				t.Errorf("full precision %v: %+v", full, block)
			}
		}
	}
}
