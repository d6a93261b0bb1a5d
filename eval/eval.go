package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

// ErrInput marks text or options that cannot be evaluated.
var ErrInput = errors.New("cannot evaluate")

// MaxWindow is the window of published tables; a model trained on less has its
// own context as window.
const MaxWindow = 2048

// headRows is the number of rows of logits held at a time.
const headRows = 256

// defaultHiddenBytes bounds the hidden states of a chunk of windows.
const defaultHiddenBytes = 512 << 20

// Candidate is one model to evaluate: a checkpoint under one arithmetic.
type Candidate struct {
	Model      *model.Model
	Name       string // of the checkpoint, for the report
	Arithmetic string // "bf16", "lut", "exact", "weight-only", ...: for the report
	Attention  string // the attention plan that is followed, for the report; "": there is none
	// HeadID may identify the output projection by its bytes (and arithmetic):
	// candidates with an equal, non-empty HeadID share one loaded head.
	HeadID string
}

// Options say how a text is evaluated. The zero value follows the protocol on
// the whole text.
type Options struct {
	Text        string // names the text in the report
	Window      int    // tokens of a window; 0: min(MaxWindow, trained context)
	Windows     int    // the first n windows; 0: all
	BOS         bool   // the tokenizer put BOS before the text; for the protocol line
	HiddenBytes int64  // bound on hidden states in memory; 0: 512 MiB. One window is always held
	// OnProgress is told the share of the work done, in thousandths.
	OnProgress func(done, total int64)
}

// trace keeps what is known of each position of all windows, in order.
type trace struct {
	nll []float64
	top []int32
	kl  []float64 // of candidates only

	spent time.Duration
	tally []rowStats // of the block of rows in hand
}

// Perplexity evaluates models without a base; each runs over the same windows.
func Perplexity(ctx context.Context, candidates []Candidate, tokens []int32, o Options) ([]Report, error) {
	return run(ctx, nil, candidates, tokens, o)
}

// Compare evaluates base once and each candidate against it. All must share the
// vocabulary. Report i belongs to candidates[i]. Text shorter than a window, a
// token outside a vocabulary and logits that are not finite are [ErrInput]; a
// cancelled ctx ends it between two windows with ctx's error.
func Compare(ctx context.Context, base Candidate, candidates []Candidate, tokens []int32, o Options) ([]Report, error) {
	return run(ctx, &base, candidates, tokens, o)
}

func run(ctx context.Context, base *Candidate, candidates []Candidate, tokens []int32, o Options) ([]Report, error) {
	all := slices.Clone(candidates)
	if base != nil {
		all = slices.Insert(all, 0, *base)
	}
	windows, size, err := cut(all, tokens, o)
	if err != nil {
		return nil, err
	}
	e := &evaluation{ctx: ctx, o: o, models: all, paired: base != nil, window: size, total: len(windows)}
	if err := e.loadHeads(); err != nil {
		return nil, err
	}
	for chunk := range slices.Chunk(windows, e.chunkSize()) {
		if err := e.chunk(chunk); err != nil {
			return nil, err
		}
	}
	return e.reports(), nil
}

// evaluation is the state of one run; model 0 is the base when paired.
type evaluation struct {
	ctx    context.Context
	o      Options
	models []Candidate
	paired bool
	window int
	total  int // windows

	heads  []*model.Head
	traces []trace
	done   int // windows of earlier chunks
}

func (e *evaluation) loadHeads() error {
	e.traces = make([]trace, len(e.models))
	shared := map[string]*model.Head{}
	for i, m := range e.models {
		start := time.Now()
		h := shared[m.HeadID]
		if h == nil {
			var err error
			if h, err = m.Model.Head(); err != nil {
				return err
			}
			if m.HeadID != "" {
				shared[m.HeadID] = h
			}
		}
		e.heads = append(e.heads, h)
		e.traces[i].spent = time.Since(start)
		e.traces[i].tally = make([]rowStats, headRows)
	}
	return nil
}

// chunkSize is the number of windows whose hidden states fit the budget.
func (e *evaluation) chunkSize() int {
	budget := e.o.HiddenBytes
	if budget == 0 {
		budget = defaultHiddenBytes
	}
	each := int64(0)
	for _, m := range e.models {
		each += 4 * int64(e.window) * int64(m.Model.Config.Hidden)
	}
	return int(max(1, min(budget/each, int64(e.total))))
}

// chunk runs some windows through every model and scores them.
func (e *evaluation) chunk(windows [][]int32) error {
	hidden := make([][]tensor.Matrix, len(e.models))
	for i, m := range e.models {
		start := time.Now()
		var err error
		hidden[i], err = m.Model.Stream(e.ctx, windows, model.StreamOptions{OnBlock: func(done, total int) {
			e.progress(float64(len(windows)) * (float64(i) + float64(done)/float64(total)) / float64(len(e.models)))
		}})
		if err != nil {
			return err
		}
		e.traces[i].spent += time.Since(start)
	}
	vocab := e.models[0].Model.Config.Vocab
	logits := []tensor.Matrix{tensor.NewMatrix(headRows, vocab), {}}
	if e.paired {
		logits[1] = tensor.NewMatrix(headRows, vocab)
	}
	for w, tokens := range windows {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		for from := 0; from < e.window-1; from += headRows {
			to := min(from+headRows, e.window-1)
			for i := range e.models {
				e.score(i, logits, hidden[i][w].RowRange(from, to), tokens[from+1:to+1])
			}
		}
		for i := range e.traces {
			if k := notFinite(e.traces[i].nll[len(e.traces[i].nll)-(e.window-1):]); k >= 0 {
				return &fault.Error{
					Err: ErrInput, Where: fmt.Sprintf("%s (%s): window %d, position %d", e.models[i].Name, e.models[i].Arithmetic, e.done+w, k),
					Found: "logits that are not finite", Wanted: "finite logits", Hint: "`quantize verify` checks the weights",
				}
			}
		}
	}
	e.done += len(windows)
	e.progress(0)
	return nil
}

// score reduces the rows x of model i, whose next tokens are next; the base's
// logits stay in logits[0] while the candidates follow.
func (e *evaluation) score(i int, logits []tensor.Matrix, x tensor.Matrix, next []int32) {
	t, start := &e.traces[i], time.Now()
	slot := 0
	if e.paired && i > 0 {
		slot = 1
	}
	y := logits[slot].RowRange(0, x.Rows)
	e.heads[i].Logits(y, x)
	at := len(t.nll)
	t.nll = append(t.nll, make([]float64, x.Rows)...)
	score(y, next, t.tally, t.nll[at:])
	for _, s := range t.tally[:x.Rows] {
		t.top = append(t.top, int32(s.top))
	}
	t.spent += time.Since(start)
	if slot == 1 { // what only the comparison needs is not the model's time
		t.kl = append(t.kl, make([]float64, x.Rows)...)
		divergence(logits[0].RowRange(0, x.Rows), y, e.traces[0].tally, t.tally, t.kl[at:])
	}
}

func (e *evaluation) progress(windows float64) {
	if e.o.OnProgress != nil {
		e.o.OnProgress(int64(1000*(float64(e.done)+windows)/float64(e.total)), 1000)
	}
}

func notFinite(x []float64) int {
	return slices.IndexFunc(x, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
}
