package packer

import (
	"strings"
	"testing"

	"quantize/model"
)

func shapes(t *testing.T, config string) (*model.Config, []LinearShape) {
	t.Helper()
	c, err := model.ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	var ls []LinearShape
	for _, e := range model.Tensors(c) {
		if e.Kind == model.KindLinear {
			ls = append(ls, LinearShape{e.Module, e.Shape[0], e.Shape[1]})
		}
	}
	return c, ls
}

const (
	llama2  = `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "torch_dtype": "bfloat16"}`
	llama3  = `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16"}`
	smolLM2 = `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 1, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "torch_dtype": "bfloat16"}`
)

// The cases that docs/formats.md gives, and some that follow from them.
func TestRuntimeTable(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  string
		scheme  Scheme
		group   int
		runtime string
		gpu     string
		degree  int
		loads   bool
		says    string
	}{
		{"8B on Hopper", llama3, W4A8, 128, "vLLM, W4A8", "SM90", 8, true, "compressed-tensors 0.11"},
		{"SM90 exactly", llama3, W4A8, 128, "vLLM, W4A8", "SM100", 1, false, "SM90 exactly"},
		{"the variant elsewhere", llama3, W4A8, 128, "vLLM, W4A16", "SM80", 4, true, "Marlin"},
		{"the variant on Hopper", llama3, W4A8, 128, "vLLM, W4A16", "SM90", 1, true, "Machete"},
		{"11008 on two", llama2, W4A8, 128, "vLLM, W4A8", "SM90", 2, true, ""},
		{"11008 on four", llama2, W4A8, 128, "vLLM, W4A8", "SM90", 4, false, "down_proj (4096x2752)"},
		{"11008 on four, groups", llama2, W4A8, 128, "vLLM, W4A16", "SM90", 4, false, "whole groups of 128"},
		{"group 64", smolLM2, W4A16, 64, "vLLM, W4A16", "SM90", 1, true, "Marlin elsewhere"},
		{"nine heads", smolLM2, W4A16, 64, "vLLM, W4A16", "SM90", 2, false, "9 heads"},
		{"W4A8 in groups of 64", smolLM2, W4A8, 64, "vLLM, W4A8", "SM90", 1, false, "groups of 128 only"},
		{"FP8 on Ada", llama3, FP8, 0, "vLLM, FP8", "SM89", 2, true, ""},
		{"FP8 on Ampere", llama3, FP8, 0, "vLLM, FP8", "SM80", 2, true, "weight-only through Marlin"},
		{"TensorRT-LLM", llama3, W4A8, 128, "TensorRT-LLM", "SM90", 1, false, "convert --to modelopt"},
		{"TensorRT-LLM converted", llama3, W4A8, 128, "TensorRT-LLM, after", "SM90", 4, true, "calibration"},
		{"SGLang", llama3, W4A8, 128, "SGLang", "SM90", 1, false, "MoE experts only"},
		{"float16", strings.Replace(llama3, "bfloat16", "float16", 1), W4A8, 128, "vLLM, W4A8", "SM90", 1, true, "--dtype bfloat16"},
		{"transformers", llama3, W4A8, 128, "transformers", "any", 1, true, "0.18"},
	} {
		cfg, ls := shapes(t, c.config)
		found := false
		for _, v := range RuntimeTable(cfg, c.scheme, c.group, ls) {
			if !strings.HasPrefix(v.Runtime, c.runtime) || !strings.Contains(v.GPU, c.gpu) || v.TensorParallel != c.degree || found {
				continue
			}
			found = true
			if v.Loads != c.loads || !strings.Contains(v.Reason, c.says) {
				t.Errorf("%s: %+v", c.name, v)
			}
		}
		if !found {
			t.Errorf("%s: no such row", c.name)
		}
	}
}

func TestDegrees(t *testing.T) {
	cfg, ls := shapes(t, llama2)
	text := strings.Join(Degrees(RuntimeTable(cfg, W4A8, 128, ls)), "\n")
	for _, want := range []string{
		"vLLM, W4A8 (config.json) on Hopper (SM90): TP 1, 2 (" + vllmSince + "); not 4, 8, N and K of each GPU",
		"vLLM, W4A8 (config.json) on Turing (SM75), Ampere (SM80), Ada (SM89): no, the kernel is for SM90",
		"transformers on any GPU or none: TP 1 (",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
