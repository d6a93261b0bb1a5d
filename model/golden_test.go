package model_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// goldens lists the folders that testdata/make_goldens.py made.
var goldens = []string{
	"llama-tied", "llama-llama3", "llama-linear", "llama-yarn", "llama-yarn-mscale", "llama-biases", "llama-head-dim",
	"mistral-window", "mistral-no-window", "qwen2-biases", "qwen2-window", "qwen3-norms", "qwen3-layer-types",
	"mixtral", "qwen3-moe", "qwen3-moe-step",
}

// TestLogitsEqualTransformers asks for 1e-5 of the logit range, ten times the largest
// difference measured, 9.5e-7: both sum in FP32, each in its own order.
func TestLogitsEqualTransformers(t *testing.T) {
	t.Parallel()
	for _, name := range goldens {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", name)
			tokens, want := readGolden(t, filepath.Join(dir, "golden.safetensors"))
			got := logits(t, dir, tokens)
			if got.Rows != want.Rows || got.Cols != want.Cols {
				t.Fatalf("logits (%d, %d), want (%d, %d)", got.Rows, got.Cols, want.Rows, want.Cols)
			}
			low, high, diff := math.Inf(1), math.Inf(-1), 0.0
			for i, w := range want.Data {
				low, high = min(low, float64(w)), max(high, float64(w))
				diff = max(diff, math.Abs(float64(got.Data[i]-w)))
			}
			if ratio := diff / (high - low); !(ratio <= 1e-5) {
				t.Errorf("largest difference %.3g of a range of %.3g: %.3g", diff, high-low, ratio)
			} else {
				t.Logf("largest difference %.2g of the range", ratio)
			}
		})
	}
}

// logits runs one window through the checkpoint in dir.
func logits(t *testing.T, dir string, tokens []int32) tensor.Matrix {
	t.Helper()
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	if err := model.Check(cfg, r); err != nil {
		t.Fatal(err)
	}
	c := modeltest.Compute()
	return run(t, cfg, model.FromCheckpoint(r, c), c, tokens)
}

func run(t *testing.T, cfg *model.Config, src model.Source, c model.Compute, tokens []int32) tensor.Matrix {
	t.Helper()
	m, err := model.New(cfg, src, c)
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := m.Stream(t.Context(), [][]int32{tokens}, model.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.Head()
	if err != nil {
		t.Fatal(err)
	}
	out := tensor.NewMatrix(len(tokens), cfg.Vocab)
	head.Logits(out, hidden[0])
	return out
}

// readGolden reads tokens (I32) and logits (F32) with a few lines of its own.
func readGolden(t *testing.T, path string) ([]int32, tensor.Matrix) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(file)
	var header map[string]struct {
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(file[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	words := func(name string) []uint32 {
		o := header[name].Offsets
		raw := file[8+n:][o[0]:o[1]]
		w := make([]uint32, len(raw)/4)
		for i := range w {
			w[i] = binary.LittleEndian.Uint32(raw[4*i:])
		}
		return w
	}
	var tokens []int32
	for _, w := range words("tokens") {
		tokens = append(tokens, int32(w))
	}
	var data []float32
	for _, w := range words("logits") {
		data = append(data, math.Float32frombits(w))
	}
	return tokens, tensor.MatrixOf(len(tokens), header["logits"].Shape[1], data)
}
