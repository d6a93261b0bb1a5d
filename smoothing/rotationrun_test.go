package smoothing_test

import (
	"testing"

	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/smoothing"
	"quantize/tensor"
)

// A rotated model through the forward pass and the run time that users get:
// FP32 weights of a folded source, the CPU's Hadamard before down.
func TestFoldedRotationsRun(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		c := modeltest.Random(6, shape)
		cfg := c.Parsed()
		width, err := smoothing.DownOrder(cfg)
		if err != nil {
			continue // layers of several widths: refused
		}
		tokens := modeltest.Tokens(6, 11, cfg.Vocab)
		hidden, err := smoothing.NewHadamard(cfg.Hidden)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := smoothing.NewResidual(cfg, smoothing.NewRandomHadamard(hidden, 1, 0))
		if err != nil {
			t.Fatal(err)
		}
		values, err := smoothing.RandomHadamardValues(cfg, 1)
		if err != nil {
			t.Fatal(err)
		}
		intermediate, err := smoothing.NewHadamard(width)
		if err != nil {
			t.Fatal(err)
		}
		down, err := smoothing.NewDown(cfg, intermediate)
		if err != nil {
			t.Fatal(err)
		}

		backend := cpu.New()
		f, err := model.Fold(cfg, c.Source(backend), backend, stream, values, down)
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.New(f.Config(), f, backend)
		if err != nil {
			t.Fatal(err)
		}
		got := logits(t, m.WithRuntime(model.Runtime{DownIn: backend.Hadamard(down.Hadamard())}), tokens)
		want := modeltest.Logits(cfg, c.Widen(), tokens)
		// FP32 sums of at most 64 products in four linears a layer; measured 6e-7.
		if d := apart(got, want); !(d <= 1e-5) {
			t.Errorf("%s: logits move by %g of their range", shape.Name, d)
		}
		if d := apart(logits(t, m, tokens), want); d < 1e-3 {
			t.Errorf("%s: without the run-time side logits move by %g only", shape.Name, d)
		}
	}
}

func logits(t *testing.T, m *model.Model, tokens []int32) tensor.Matrix {
	t.Helper()
	hidden, err := m.Stream(t.Context(), [][]int32{tokens}, model.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.Head()
	if err != nil {
		t.Fatal(err)
	}
	out := tensor.NewMatrix(len(tokens), m.Config.Vocab)
	head.Logits(out, hidden[0])
	return out
}

// apart is the largest difference relative to the range of want.
func apart(got tensor.Matrix, want [][]float64) float64 {
	low, high, most := want[0][0], want[0][0], 0.0
	for i, row := range want {
		for j, v := range row {
			low, high = min(low, v), max(high, v)
			d := float64(got.Row(i)[j]) - v
			most = max(most, d, -d)
		}
	}
	return most / (high - low)
}
