package model_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// TestForwardEqualsFloat64 compares with the separate float64 forward pass.
// Between roundings to FP32 activations nothing else differs: the largest
// measured error is 1.8e-6 of the range.
func TestForwardEqualsFloat64(t *testing.T) {
	t.Parallel()
	for i, s := range modeltest.Shapes() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			c := modeltest.Random(uint64(i), s)
			tokens := modeltest.Tokens(uint64(i), 40, s.Vocab)
			compute := modeltest.Compute()
			got := run(t, c.Parsed(), c.Source(compute), compute, tokens)
			diff, span := 0.0, 0.0
			for m, row := range modeltest.Logits(c.Parsed(), c.Widen(), tokens) {
				for n, want := range row {
					span = max(span, math.Abs(want))
					diff = max(diff, math.Abs(float64(got.Row(m)[n])-want))
				}
			}
			if !(diff <= 1e-5*span) {
				t.Errorf("largest difference %.3g of %.3g", diff, span)
			} else {
				t.Logf("largest difference %.2g of the range", diff/span)
			}
		})
	}
}

// TestEveryWeightCounts changes one tensor at a time; logits that stay would
// mean that the forward pass does not read it.
func TestEveryWeightCounts(t *testing.T) {
	t.Parallel()
	for i, s := range modeltest.Shapes() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			c := modeltest.Random(uint64(i), s)
			cfg, compute := c.Parsed(), modeltest.Compute()
			tokens := modeltest.Tokens(uint64(i), 8, s.Vocab)
			before := run(t, cfg, c.Source(compute), compute, tokens)
			for _, e := range model.Tensors(cfg) {
				data := c.Tensors[e.Name].Data
				for j := range data {
					data[j] = -data[j]
				}
				if cmp.Equal(before, run(t, cfg, c.Source(compute), compute, tokens)) {
					t.Errorf("%s does not reach the logits", e.Name)
				}
				for j := range data {
					data[j] = -data[j]
				}
			}
		})
	}
}

func TestObserverSeesEveryPointInOrder(t *testing.T) {
	s := modeltest.Shapes()[1]
	c := modeltest.Random(1, s)
	cfg, compute := c.Parsed(), modeltest.Compute()
	m, err := model.New(cfg, c.Source(compute), compute)
	if err != nil {
		t.Fatal(err)
	}
	q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	points := []struct {
		point model.Point
		cols  int
	}{
		{model.AttnIn, s.Hidden},
		{model.QPre, q},
		{model.KPre, kv},
		{model.QPost, q},
		{model.KPost, kv},
		{model.V, kv},
		{model.OIn, q},
		{model.MLPIn, s.Hidden},
		{model.DownIn, s.Intermediate},
	}
	windows := [][]int32{{1, 2, 3}, {4, 5}}
	var want, got []string
	for layer := range s.Layers {
		for _, w := range windows {
			for _, p := range points {
				want = append(want, fmt.Sprintf("%d %s (%d, %d)", layer, p.point, len(w), p.cols))
			}
		}
		want = append(want, fmt.Sprintf("block %d of %d", layer+1, s.Layers))
	}
	_, err = m.Stream(t.Context(), windows, model.StreamOptions{
		Observe: func(site model.Site, x tensor.Matrix) {
			got = append(got, fmt.Sprintf("%d %s (%d, %d)", site.Layer, site.Point, x.Rows, x.Cols))
		},
		OnBlock: func(done, total int) { got = append(got, fmt.Sprintf("block %d of %d", done, total)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestWindowsAreIndependent holds that neither the company of a window nor the
// reused buffers of a longer one change its bits.
func TestWindowsAreIndependent(t *testing.T) {
	s := modeltest.Shapes()[5]
	c := modeltest.Random(5, s)
	compute := modeltest.Compute()
	m, err := model.New(c.Parsed(), c.Source(compute), compute)
	if err != nil {
		t.Fatal(err)
	}
	windows := [][]int32{modeltest.Tokens(1, 30, s.Vocab), modeltest.Tokens(2, 7, s.Vocab), {}, {3}}
	together, err := m.Stream(t.Context(), windows, model.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range windows {
		alone, err := m.Stream(t.Context(), [][]int32{w}, model.StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(alone[0], together[i]); d != "" {
			t.Errorf("window %d: %s", i, d)
		}
	}
}

func TestCancelStopsBetweenWindows(t *testing.T) {
	s := modeltest.Shapes()[0]
	c := modeltest.Random(0, s)
	compute := modeltest.Compute()
	m, err := model.New(c.Parsed(), c.Source(compute), compute)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	_, err = m.Stream(ctx, [][]int32{{1}, {2}, {3}}, model.StreamOptions{Observe: func(site model.Site, _ tensor.Matrix) {
		if site.Point == model.DownIn {
			seen++
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || seen != 1 {
		t.Errorf("error %v after %d windows, want context.Canceled after 1", err, seen)
	}
}

// TestHeadLargerThanASlice has a vocabulary of one slice and a bit more.
func TestHeadLargerThanASlice(t *testing.T) {
	for _, tied := range []bool{true, false} {
		s := modeltest.Shape{Family: "llama", Hidden: 4, Intermediate: 4, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 4, Vocab: 8192 + 5, Tied: tied}
		c := modeltest.Random(1, s)
		compute := modeltest.Compute()
		tokens := []int32{0, 8191, 8192, 8196}
		got := run(t, c.Parsed(), c.Source(compute), compute, tokens)
		for m, row := range modeltest.Logits(c.Parsed(), c.Widen(), tokens) {
			for n, want := range row {
				if math.Abs(float64(got.Row(m)[n])-want) > 1e-4 {
					t.Fatalf("tied %v: logit (%d, %d) is %v, want %v", tied, m, n, got.Row(m)[n], want)
				}
			}
		}
	}
}

func TestTokenOutsideTheVocabulary(t *testing.T) {
	c := modeltest.Random(0, modeltest.Shapes()[0])
	compute := modeltest.Compute()
	m, err := model.New(c.Parsed(), c.Source(compute), compute)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []int32{-1, 64} {
		_, err := m.Stream(t.Context(), [][]int32{{0}, {0, token}}, model.StreamOptions{})
		if !errors.Is(err, model.ErrInput) || !strings.Contains(err.Error(), "token 1 of window 1") {
			t.Errorf("token %d: %v", token, err)
		}
	}
}

// TestBrokenCheckpoints demands a typed error that names the tensor, from the
// check beforehand and from loading.
func TestBrokenCheckpoints(t *testing.T) {
	qwen2, llama := modeltest.Shapes()[6], modeltest.Shapes()[0]
	const q, norm = "model.layers.1.self_attn.q_proj", "model.layers.1.input_layernorm.weight"
	for _, tc := range []struct {
		name  string
		shape modeltest.Shape
		edit  func(*modeltest.Checkpoint)
		where string
	}{
		{"missing weight", llama, func(c *modeltest.Checkpoint) { delete(c.Tensors, q+".weight") }, q + ".weight"},
		{"missing norm", llama, func(c *modeltest.Checkpoint) { delete(c.Tensors, norm) }, norm},
		{"missing embedding", llama, func(c *modeltest.Checkpoint) { delete(c.Tensors, "model.embed_tokens.weight") }, "model.embed_tokens.weight"},
		{"missing final norm", llama, func(c *modeltest.Checkpoint) { delete(c.Tensors, "model.norm.weight") }, "model.norm.weight"},
		{"missing bias", qwen2, func(c *modeltest.Checkpoint) { delete(c.Tensors, q+".bias") }, q + ".bias"},
		{"bias too many", llama, func(c *modeltest.Checkpoint) {
			c.Tensors[q+".bias"] = modeltest.Tensor{Shape: []int{32}, Data: make([]float32, 32)}
		}, q + ".bias"},
		{"transposed weight", llama, func(c *modeltest.Checkpoint) {
			w := c.Tensors["model.layers.1.mlp.up_proj.weight"]
			w.Shape = []int{w.Shape[1], w.Shape[0]}
			c.Tensors["model.layers.1.mlp.up_proj.weight"] = w
		}, "model.layers.1.mlp.up_proj.weight"},
		{"norm as a matrix", llama, func(c *modeltest.Checkpoint) {
			w := c.Tensors[norm]
			w.Shape = []int{1, len(w.Data)}
			c.Tensors[norm] = w
		}, norm},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := modeltest.Random(1, tc.shape)
			tc.edit(c)
			dir := t.TempDir()
			if err := c.Write(dir); err != nil {
				t.Fatal(err)
			}
			r, err := checkpoint.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			compute := modeltest.Compute()
			m, err := model.New(c.Parsed(), model.FromCheckpoint(r, compute), compute)
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.Stream(t.Context(), [][]int32{{1, 2}}, model.StreamOptions{})
			names(t, err, tc.where)
			names(t, model.Check(c.Parsed(), r), tc.where)
		})
	}
}

// Strays are told by their kind, with the way out.
func TestStrays(t *testing.T) {
	for _, tc := range []struct {
		family, tensor string
		says           []string
	}{
		{"llama", "model.layers.2.self_attn.q_proj.weight", []string{"config.json num_hidden_layers", "2 beside 1 tensor (model.layers.2.self_attn.q_proj.weight) of later layers", "correct num_hidden_layers"}},
		{"llama", "model.layers.10.mtp.weight", []string{"config.json num_hidden_layers", "model.layers.10.mtp.weight"}},
		{"llama", "model.layers.0.self_attn.v_proj.bias", []string{"with attention_bias: true in config.json"}},
		{"llama", "model.layers.1.mlp.down_proj.bias", []string{"with mlp_bias: true in config.json"}},
		{"qwen3", "model.layers.1.mlp.down_proj.bias", []string{"Qwen3ForCausalLM has none there"}},
		{"llama", "model.norm.bias", []string{"LlamaForCausalLM has none there"}},
		{"llama", "lm_head.bias", []string{"lm_head.bias"}},
		{"llama", "model.layers.1.self_attn.rotary_emb.inv_freq", nil},
		{"llama", "model.layers.1.self_attn.other.bias", nil},
		{"llama", "vision.layers.7.weight", nil},
	} {
		c, err := model.ParseConfig(edited(t, tc.family, nil))
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(model.Strays(c, []string{"model.norm.weight", tc.tensor})...)
		if (err == nil) != (tc.says == nil) {
			t.Errorf("%s: %v", tc.tensor, err)
		}
		for _, s := range tc.says {
			if !errors.Is(err, checkpoint.ErrInvalid) || !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v, wanted %q", tc.tensor, err, s)
			}
		}
	}
}

// TestCheckTellsWithinReason: a config of a larger model is at odds with every tensor.
func TestCheckTellsWithinReason(t *testing.T) {
	t.Parallel()
	c := modeltest.Random(1, modeltest.Shapes()[0])
	dir := t.TempDir()
	if err := c.Write(dir); err != nil {
		t.Fatal(err)
	}
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	cfg := *c.Parsed()
	layer := (len(model.Tensors(&cfg)) - 2) / cfg.Layers
	cfg.Layers += 4000
	err = model.Check(&cfg, r)
	if n := strings.Count(fmt.Sprint(err), "\n"); n != 10 || !errors.Is(err, checkpoint.ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprintf("%d more tensors", 4000*layer-10)) {
		t.Errorf("%d lines: %.2000v", n+1, err)
	}
	cfg = *c.Parsed()
	cfg.Intermediate *= 2
	var f *fault.Error
	if err := model.Check(&cfg, r); !errors.As(err, &f) || !strings.HasSuffix(f.Where, "model.safetensors") || f.Hint == "" {
		t.Errorf("a shape without its file and a hint: %v", err)
	}
}

func names(t *testing.T, err error, where string) {
	t.Helper()
	var f *fault.Error
	if !errors.Is(err, checkpoint.ErrInvalid) || !errors.As(err, &f) || !strings.Contains(f.Where, where) {
		t.Errorf("error %v, want a fault about %s", err, where)
	}
}
