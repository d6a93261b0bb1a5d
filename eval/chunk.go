package eval

import (
	"fmt"
	"math"
	"slices"
	"time"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

// chunk runs some windows through every model and scores them.
func (e *evaluation) chunk(windows []windowOf) error {
	hidden := make([][]tensor.Matrix, len(e.models))
	for i := range e.models {
		var err error
		if hidden[i], err = e.hidden(i, windows); err != nil {
			return err
		}
	}
	vocab := e.models[0].Model.Config.Vocab
	logits := []tensor.Matrix{tensor.NewMatrix(headRows, vocab), {}}
	if e.paired {
		logits[1] = tensor.NewMatrix(headRows, vocab)
	}
	for w, win := range windows {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		t := e.texts[win.text]
		for from := 0; from < e.window-1; from += headRows {
			to := min(from+headRows, e.window-1)
			for i := range e.models {
				if e.idle(i, t) {
					continue
				}
				e.score(i, t, logits, hidden[i][w].RowRange(from, to), win.tokens[from+1:to+1])
				e.work.head(e.models[i].Model, to-from)
			}
		}
		for i := range e.models {
			if nll := t.traces[i].nll[win.index*(e.window-1):]; !e.idle(i, t) && notFinite(nll) >= 0 {
				return &fault.Error{
					Err: ErrInput, Where: fmt.Sprintf("%s (%s): %s: window %d, position %d", e.models[i].Name, e.models[i].Arithmetic, t.Name, win.index, notFinite(nll)),
					Found: "logits that are not finite", Wanted: "finite logits", Hint: "`quantize verify` checks the weights",
				}
			}
		}
	}
	return nil
}

// hidden gives the final hidden states of model i on each window; those of a
// base with a record are read, if the head needs them at all.
func (e *evaluation) hidden(i int, windows []windowOf) ([]tensor.Matrix, error) {
	out := make([]tensor.Matrix, len(windows))
	var tokens [][]int32
	var places []int // in out, of what is run
	m := e.models[i].Model
	for w, win := range windows {
		t := e.texts[win.text]
		switch {
		case i > 0 || t.record == nil:
			tokens, places = append(tokens, win.tokens), append(places, w)
		case !e.o.WithoutKL:
			out[w] = tensor.NewMatrix(e.window, m.Config.Hidden)
			if err := t.record.states(win.index, out[w]); err != nil {
				return nil, &fault.Error{Err: err, Where: t.record.f.Name(), Wanted: "a readable cache", Hint: "--no-cache"}
			}
		}
	}
	if len(tokens) == 0 {
		return out, nil
	}
	start := time.Now()
	states, err := m.Stream(e.ctx, tokens, model.StreamOptions{OnBlock: func(int, int) { e.work.block(m, len(tokens)) }})
	if err != nil {
		return nil, err
	}
	// Texts share the loading of blocks: each window has its part of the time.
	each := time.Since(start) / time.Duration(len(tokens))
	for k, w := range places {
		t := e.texts[windows[w].text]
		out[w] = states[k]
		t.traces[i].spent += each
		if i == 0 && t.draft != nil {
			t.draft.add(states[k])
		}
	}
	return out, nil
}

// score reduces the rows x of model i, whose next tokens are next; the base's
// logits stay in logits[0] while the candidates follow.
func (e *evaluation) score(i int, text *textRun, logits []tensor.Matrix, x tensor.Matrix, next []int32) {
	t, start := &text.traces[i], time.Now()
	slot := 0
	if e.paired && i > 0 {
		slot = 1
	}
	y := logits[slot].RowRange(0, x.Rows)
	e.heads[i].Logits(y, x)
	at := len(t.nll)
	t.nll = append(t.nll, make([]float64, x.Rows)...)
	score(y, next, e.tally[i], t.nll[at:])
	for _, s := range e.tally[i][:x.Rows] {
		t.top = append(t.top, int32(s.top))
	}
	t.spent += time.Since(start)
	if slot == 1 && !e.o.WithoutKL { // what only the comparison needs is not the model's time
		t.kl = append(t.kl, make([]float64, x.Rows)...)
		divergence(logits[0].RowRange(0, x.Rows), y, e.tally[0], e.tally[i], t.kl[at:])
	}
}

func notFinite(x []float64) int {
	return slices.IndexFunc(x, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}
