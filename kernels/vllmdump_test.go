package kernels_test

import (
	"math"
	"testing"

	"quantize/checkpoint"
)

// vllmRow is what vLLM gives a position: ln q of every token, or where ids is set, of the
// token that follows there and then of the likeliest ones, by rank.
type vllmRow struct {
	ids []int32
	log []float32
}

// of is ln q of the token that follows.
func (r vllmRow) of(next int32) float64 {
	if r.ids == nil {
		return float64(r.log[next])
	}
	return float64(r.log[0])
}

// first is the likeliest token.
func (r vllmRow) first() int32 {
	if r.ids == nil {
		return int32(argmax(r.log))
	}
	return r.ids[1]
}

// divergence is KL(p || q) of a row p of log-probs, in nats. Where q has the likeliest tokens
// alone, the others count as one: this divergence is at most that of the whole vocabulary.
func (r vllmRow) divergence(p []float32) float64 {
	if r.ids == nil {
		return divergence(p, r.log)
	}
	const least = 1e-9 // of the rest: below, one minus the sum is rounding
	sum, restP, restQ := 0.0, 1.0, 1.0
	for i, id := range r.ids[1:] {
		ours, theirs := float64(p[id]), float64(r.log[1+i])
		sum += math.Exp(ours) * (ours - theirs)
		restP -= math.Exp(ours)
		restQ -= math.Exp(theirs)
	}
	restP, restQ = max(restP, least), max(restQ, least)
	return sum + restP*math.Log(restP/restQ)
}

// dumpedWindows are the token ids of a dump.
func dumpedWindows(t *testing.T, dump *checkpoint.Reader) [][]int32 {
	t.Helper()
	flat, shape := readIDs(t, dump, "ids")
	windows := make([][]int32, shape[0])
	for i := range windows {
		windows[i] = flat[i*shape[1]:][:shape[1]]
	}
	return windows
}

// dumpedLogProbs gives the rows of a dump, one a predicted token: (rows, vocabulary), or
// (rows, 1 + the likeliest) beside their token ids.
func dumpedLogProbs(t *testing.T, dump *checkpoint.Reader, windows [][]int32, vocab int) func(row int) vllmRow {
	t.Helper()
	rows, m := len(windows)*(len(windows[0])-1), read(t, dump, "logprobs")
	var ids []int32
	if _, err := dump.Info("top_ids"); err == nil {
		var shape []int
		if ids, shape = readIDs(t, dump, "top_ids"); len(shape) != 2 || shape[0] != rows || shape[1] != m.Cols || m.Cols < 2 {
			t.Fatalf("top_ids %v, log-probs (%d, %d), want %d rows", shape, m.Rows, m.Cols, rows)
		}
	}
	if m.Rows != rows || ids == nil && m.Cols != vocab {
		t.Fatalf("log-probs (%d, %d), want (%d, %d)", m.Rows, m.Cols, rows, vocab)
	}
	return func(row int) vllmRow {
		if ids == nil {
			return vllmRow{log: m.Row(row)}
		}
		return vllmRow{ids: ids[row*m.Cols:][:m.Cols], log: m.Row(row)}
	}
}

// TestVLLMRowOfTheLikeliest compares the two forms of a row: the short one has the same
// answers, and a divergence between nothing and that of the whole.
func TestVLLMRowOfTheLikeliest(t *testing.T) {
	p := []float32{-1, -2, -2.5, 0.5, -4, -3, 0}
	q := []float32{-1.1, -1.5, -2.5, 0.7, -4.5, -3, -0.2}
	normalize(p)
	normalize(q)
	whole := vllmRow{log: q}
	short := vllmRow{ids: []int32{4, 3, 6, 0}, log: []float32{q[4], q[3], q[6], q[0]}}
	if short.of(4) != whole.of(4) || short.first() != 3 || whole.first() != 3 {
		t.Errorf("own %v and %v, first %d and %d, want 3", short.of(4), whole.of(4), short.first(), whole.first())
	}
	all := vllmRow{ids: []int32{4, 3, 6, 0, 1, 2, 5, 4}, log: []float32{q[4], q[3], q[6], q[0], q[1], q[2], q[5], q[4]}}
	if a, b := all.divergence(p), whole.divergence(p); math.Abs(a-b) > 1e-6 {
		t.Errorf("all tokens by rank %v, the vocabulary %v", a, b)
	}
	if a, b := short.divergence(p), whole.divergence(p); !(a > 0.5*b && a < b) {
		t.Errorf("three tokens and the rest %v, the vocabulary %v", a, b)
	}
}
