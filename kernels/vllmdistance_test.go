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
	KL      float64 `json:"kl"`          // mean KL(ours, vLLM), nats
	LogProb float64 `json:"log_prob"`    // mean |ours - vLLM| of the text's own tokens
	Top1    float64 `json:"top1"`        // share of tokens with the same first choice
	Same    int     `json:"greedy_same"` // of vLLM's greedy tokens, those that we choose after its own ones before
	Greedy  int     `json:"greedy"`

	PPLTheirs float64 `json:"ppl_vllm"`
	PPLOurs   float64 `json:"ppl_ours"`
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

// logProbs gives ln p (tokens, vocabulary) of m by window, made when asked for: those of a
// large vocabulary are not held for all windows at once.
func logProbs(t *testing.T, m *model.Model, windows [][]int32) func(window int) tensor.Matrix {
	t.Helper()
	hidden, err := m.Stream(context.Background(), windows, model.StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.Head()
	if err != nil {
		t.Fatal(err)
	}
	return func(window int) tensor.Matrix {
		out := tensor.NewMatrix(len(windows[window]), m.Config.Vocab)
		head.Logits(out, hidden[window])
		for row := range out.Rows {
			normalize(out.Row(row))
		}
		return out
	}
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
	windows := dumpedWindows(t, dump)
	theirs := dumpedLogProbs(t, dump, windows, m.Config.Vocab)
	out := vllmDistance{Reading: reading, Greedy: len(d.Greedy)}
	agreed, nllOurs, nllTheirs := 0, 0.0, 0.0
	ours := logProbs(t, m, windows)
	for i, w := range windows {
		rows := ours(i)
		for token, next := range w[1:] {
			p, q := rows.Row(token), theirs(out.Tokens)
			own := q.of(next)
			out.KL += q.divergence(p)
			out.LogProb += math.Abs(float64(p[next]) - own)
			nllOurs, nllTheirs = nllOurs-float64(p[next]), nllTheirs-own
			if int32(argmax(p)) == q.first() {
				agreed++
			}
			out.Tokens++
		}
	}
	n := float64(out.Tokens)
	out.KL, out.LogProb, out.Top1 = out.KL/n, out.LogProb/n, float64(agreed)/n
	out.PPLTheirs, out.PPLOurs = math.Exp(nllTheirs/n), math.Exp(nllOurs/n)
	text := append(append([]int32{}, windows[0][:d.Prompt]...), d.Greedy...)
	continued := logProbs(t, m, [][]int32{text})(0)
	for i, token := range d.Greedy {
		if argmax(continued.Row(d.Prompt-1+i)) == int(token) {
			out.Same++
		}
	}
	return out
}

// divergence is KL(p || q) of two rows of log-probs, in nats.
func divergence(p, q []float32) float64 {
	sum := 0.0
	for i, x := range p {
		sum += math.Exp(float64(x)) * (float64(x) - float64(q[i]))
	}
	return sum
}
