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

// sequentialExperts begins to round a small model of 8 experts, of which its Folded
// is a second copy.
func sequentialExperts(t *testing.T, full bool, tokens, window int) (*Sequential, *model.Folded) {
	t.Helper()
	c := modeltest.Random(4, modeltest.Shape{
		Name: "experts", Family: "mixtral", Hidden: 64, Intermediate: 64, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 32, Vocab: 64,
		Config: map[string]any{"num_local_experts": 8, "num_experts_per_tok": 2},
	})
	cfg, compute := c.Parsed(), modeltest.Compute()
	var copies [2]*model.Folded
	for i := range copies {
		var err error
		if copies[i], err = model.Fold(cfg, c.Source(compute), compute); err != nil {
			t.Fatal(err)
		}
	}
	s, err := NewSequential(SequentialOptions{
		Weights: copies[0], Compute: compute, Windows: calibrate.Windows(modeltest.Tokens(4, tokens, cfg.Vocab), window, 0, 0), Damp: 0.01, FullPrecision: full,
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
	t.Cleanup(func() { _ = s.Close() })
	return s, copies[1]
}

// ownFit rounds w, a gate of an expert, against what reaches the expert of the
// current block, and with FullPrecision against what those tokens are in the exact
// block: rows of the MLP's input, found without the choice of the other block. It
// also counts the windows in which the exact block sends the expert other tokens.
func ownFit(t *testing.T, s *Sequential, expert int, w tensor.Matrix, o Int4Options) (codes []uint32, disagreements int) {
	t.Helper()
	point := model.ExpertIn.Of(expert)
	sums := calibrate.NewAccumulator(calibrate.PlainMatMulT)
	h := &calibrate.Hessian{K: w.Cols, Data: make([]float64, w.Cols*w.Cols)}
	d := newDrift(w.Cols, s.o.Weights.Config().Hidden, point)
	for i := range s.x.Len() {
		x, err := s.x.Get(i)
		if err != nil {
			t.Fatal(err)
		}
		in := copyOf(s.block.UntilExpert(point, x, s.block.Route(x)))
		if in.Rows > 0 {
			sums.Add(h, in)
		}
		if s.exact == nil {
			continue
		}
		y, err := s.y.Get(i)
		if err != nil {
			t.Fatal(err)
		}
		rows := rowsWithin(t, in, s.block.Until(model.MLPIn, x))
		own := copyOf(s.exact.UntilExpert(point, y, s.exact.Route(y)))
		all := s.exact.Until(model.MLPIn, y)
		if !slices.Equal(rows, rowsWithin(t, own, all)) {
			disagreements++
		}
		exact := tensor.NewMatrix(len(rows), w.Cols)
		for j, row := range rows {
			copy(exact.Row(j), all.Row(row))
		}
		if in.Rows > 0 {
			d.add(sums, in, exact, x, y)
		}
	}
	sums.Complete(h)
	f, err := FactorHessian(h, FactorOptions{Damp: s.o.Damp})
	if err != nil {
		t.Fatal(err)
	}
	if s.exact != nil {
		d.prepare(f, calibrate.PlainMatMulT)
		w = d.target(w)
	}
	q, _, err := QuantizeGPTQ(w, f, GPTQOptions{Int4Options: o, Propagation: Propagation{MatMulT: s.o.MatMulT}})
	if err != nil {
		t.Fatal(err)
	}
	return q.Codes, disagreements
}

func copyOf(m tensor.Matrix) tensor.Matrix {
	out := tensor.NewMatrix(m.Rows, m.Cols)
	for i := range m.Rows {
		copy(out.Row(i), m.Row(i))
	}
	return out
}

// rowsWithin says which rows of all those of some are, in their order.
func rowsWithin(t *testing.T, some, all tensor.Matrix) []int {
	t.Helper()
	var rows []int
	for i := 0; i < all.Rows && len(rows) < some.Rows; i++ {
		if slices.Equal(all.Row(i), some.Row(len(rows))) {
			rows = append(rows, i)
		}
	}
	if len(rows) != some.Rows {
		t.Fatalf("%d of %d rows found", len(rows), some.Rows)
	}
	return rows
}

// Each expert is fitted to its own tokens, whatever its target; what is seen of it
// is told, and what nobody saw is what rounding to nearest gives.
func TestSequentialFitsEachExpert(t *testing.T) {
	t.Parallel()
	for _, full := range []bool{false, true} {
		s, weights := sequentialExperts(t, full, 6, 3)
		cfg := weights.Config()
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
			if e.Role == model.RoleExpertGate && *layer.Tokens > 0 {
				_, expert := ExpertOf(e.Module)
				if want, _ := ownFit(t, s, expert, w, o); !slices.Equal(q.(*Int4Weight).Codes, want) {
					t.Errorf("full precision %v: %s is not fitted to its own tokens", full, e.Module)
				}
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

// Where the rounded model sends a token elsewhere than the unrounded one does, the
// expert it reaches is fitted to the unrounded one on that token.
func TestSequentialFollowsTheRoundedRouter(t *testing.T) {
	t.Parallel()
	s, weights := sequentialExperts(t, true, 160, 32)
	o := Int4Options{GroupSize: 32, Grid: GridWeightOnly}
	disagreements := 0
	for _, e := range model.Tensors(weights.Config()) {
		if e.Kind != model.KindLinear {
			continue
		}
		w, err := weights.Matrix(e.Name)
		if err != nil {
			t.Fatal(err)
		}
		q, layer, err := s.Quantize(t.Context(), e.Module, w, o)
		if err != nil {
			t.Fatal(err)
		}
		if e.Role != model.RoleExpertGate || *layer.Tokens == 0 {
			continue
		}
		_, expert := ExpertOf(e.Module)
		want, n := ownFit(t, s, expert, w, o)
		if disagreements += n; !slices.Equal(q.(*Int4Weight).Codes, want) {
			t.Errorf("%s is not fitted to the tokens of the rounded router", e.Module)
		}
	}
	if disagreements == 0 {
		t.Error("both routers choose alike: the test shows nothing")
	}
}
