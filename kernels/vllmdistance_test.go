package kernels_test

import (
	"context"
	"math"
	"testing"

	"quantize/checkpoint"
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// vllmDistance is how far vLLM's prompt log-probs and greedy tokens are from one of our readings.
type vllmDistance struct {
	Reading string  `json:"reading"`
	Tokens  int     `json:"tokens"`      // predicted
	KL      float64 `json:"kl"`          // mean KL(ours, vLLM) over the vocabulary, nats
	LogProb float64 `json:"log_prob"`    // mean |ours - vLLM| of the text's own tokens
	Top1    float64 `json:"top1"`        // share of tokens with the same first choice
	Same    int     `json:"greedy_same"` // of vLLM's greedy tokens, those that we choose after its own ones before
	Greedy  int     `json:"greedy"`
}

// vllmModel is the checkpoint under a, with the FP8 cache that it asks for.
func vllmModel(t *testing.T, r *checkpoint.Reader, c kernels.Backend, a packer.Arithmetic) *model.Model {
	t.Helper()
	src, err := kernels.Source(r, c, a)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.New(cfg, src, c)
	if err != nil {
		t.Fatal(err)
	}
	q, err := packer.ParseQuantizationConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	if q == nil || q.KVCacheScheme == nil {
		return m
	}
	s, err := packer.ReadRuntime(r, cfg, q)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := kernels.NewCache(s.KV, s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m.WithRuntime(model.Runtime{Cache: cache})
}

// logProbs are ln p (tokens, vocabulary) of m on each window.
func logProbs(t *testing.T, m *model.Model, windows [][]int32) []tensor.Matrix {
	t.Helper()
	hidden, err := m.Stream(context.Background(), windows, model.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.Head()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]tensor.Matrix, len(windows))
	for i, w := range windows {
		out[i] = tensor.NewMatrix(len(w), m.Config.Vocab)
		head.Logits(out[i], hidden[i])
		for row := range len(w) {
			normalize(out[i].Row(row))
		}
	}
	return out
}

// normalize subtracts ln sum e^x, summed in float64.
func normalize(x []float32) {
	peak := float64(x[argmax(x)])
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - peak)
	}
	log := peak + math.Log(sum)
	for i, v := range x {
		x[i] = float32(float64(v) - log)
	}
}

// argmax is the first of the largest elements.
func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// measureVLLM runs m on the windows of a dump and on the greedy tokens.
func measureVLLM(t *testing.T, m *model.Model, reading string, dump *checkpoint.Reader, d vllmDump) vllmDistance {
	t.Helper()
	windows, theirs := dumpedWindows(t, dump), read(t, dump, "logprobs")
	predicted := len(windows[0]) - 1
	if want := len(windows) * predicted; theirs.Rows != want || theirs.Cols != m.Config.Vocab {
		t.Fatalf("log-probs (%d, %d), want (%d, %d)", theirs.Rows, theirs.Cols, want, m.Config.Vocab)
	}
	out := vllmDistance{Reading: reading, Tokens: theirs.Rows, Greedy: len(d.Greedy)}
	agreed := 0
	for i, ours := range logProbs(t, m, windows) {
		for token, next := range windows[i][1:] {
			p, q := ours.Row(token), theirs.Row(i*predicted+token)
			out.KL += divergence(p, q)
			out.LogProb += math.Abs(float64(p[next]) - float64(q[next]))
			if argmax(p) == argmax(q) {
				agreed++
			}
		}
	}
	n := float64(out.Tokens)
	out.KL, out.LogProb, out.Top1 = out.KL/n, out.LogProb/n, float64(agreed)/n
	text := append(append([]int32{}, windows[0][:d.Prompt]...), d.Greedy...)
	ours := logProbs(t, m, [][]int32{text})[0]
	for i, token := range d.Greedy {
		if argmax(ours.Row(d.Prompt-1+i)) == int(token) {
			out.Same++
		}
	}
	return out
}

// dumpedWindows are the token ids of a dump.
func dumpedWindows(t *testing.T, dump *checkpoint.Reader) [][]int32 {
	t.Helper()
	info, err := dump.Info("ids")
	if err != nil {
		t.Fatal(err)
	}
	flat, windows := ids(t, dump), make([][]int32, info.Shape[0])
	for i := range windows {
		windows[i] = flat[i*info.Shape[1]:][:info.Shape[1]]
	}
	return windows
}

// divergence is KL(p || q) of two rows of log-probs, in nats.
func divergence(p, q []float32) float64 {
	sum := 0.0
	for i, x := range p {
		sum += math.Exp(float64(x)) * (float64(x) - float64(q[i]))
	}
	return sum
}
