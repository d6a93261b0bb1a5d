package eval

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"quantize/internal/fault"
	"quantize/model"
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
	Device     string // cpu or cuda, for the report
	Attention  string // the attention plan that is followed, for the report; "": there is none
	// HeadID may identify the output projection by its bytes (and arithmetic):
	// candidates with an equal, non-empty HeadID share one loaded head.
	HeadID string
	// ID may identify all else that decides the bits of its results: weights,
	// configuration, instruction set, program. A base without one is not cached.
	ID string
	// Unchanged may say that the weights are still those that ID is of: they are read
	// again for every chunk of windows. nil: not asked.
	Unchanged func() error
}

// Text is a text to evaluate, in tokens.
type Text struct {
	Name   string // in the report
	Tokens []int32
	BOS    bool // the tokenizer put BOS before the text; for the protocol line
}

// Options say how texts are evaluated. The zero value follows the protocol on
// the whole of each text.
type Options struct {
	Window      int    // tokens of a window; 0: min(MaxWindow, trained context)
	Windows     int    // the first n windows of each text; 0: all
	WithoutKL   bool   // the KL divergences stay NaN: a cached base is not run at all
	Cache       *Cache // of what the base gave; nil: none
	HiddenBytes int64  // bound on hidden states in memory; 0: 512 MiB. One window is always held
	// OnProgress is told the share of the work done, in thousandths.
	OnProgress func(done, total int64)
}

// trace keeps what is known of each position of a text under a model, in order.
type trace struct {
	nll []float64
	top []int32
	kl  []float64 // of candidates only

	spent time.Duration
}

// Perplexity evaluates models without a base; all run over the same windows.
// Report [t][i] is of texts[t] and candidates[i].
func Perplexity(ctx context.Context, candidates []Candidate, texts []Text, o Options) ([][]Report, error) {
	return run(ctx, nil, candidates, texts, o)
}

// Compare evaluates base once, or takes what the cache has of it, and each
// candidate against it. All must share the vocabulary. Report [t][i] is of
// texts[t] and candidates[i]. Text shorter than a window, a token outside a
// vocabulary and logits that are not finite are [ErrInput]; a cancelled ctx ends
// it between two windows with ctx's error; a model that is no longer
// [Candidate.Unchanged] ends it with that error, and nothing is kept.
func Compare(ctx context.Context, base Candidate, candidates []Candidate, texts []Text, o Options) ([][]Report, error) {
	return run(ctx, &base, candidates, texts, o)
}

func run(ctx context.Context, base *Candidate, candidates []Candidate, texts []Text, o Options) ([][]Report, error) {
	all := slices.Clone(candidates)
	if base != nil {
		all = slices.Insert(all, 0, *base)
	}
	if len(texts) == 0 {
		return nil, &fault.Error{Err: ErrInput, Found: "no text", Wanted: "at least one"}
	}
	e := &evaluation{ctx: ctx, o: o, models: all, paired: base != nil}
	defer e.close()
	var windows []windowOf
	for i, t := range texts {
		cuts, size, err := cut(all, t, o)
		if err != nil {
			return nil, err
		}
		e.window = size
		e.texts = append(e.texts, &textRun{Text: t, windows: len(cuts), traces: make([]trace, len(all))})
		for w, tokens := range cuts {
			windows = append(windows, windowOf{text: i, index: w, tokens: tokens})
		}
	}
	if e.paired && o.Cache != nil && base.ID != "" {
		e.openRecords(windows)
	}
	if err := e.loadHeads(); err != nil {
		return nil, err
	}
	e.plan()
	for chunk := range slices.Chunk(windows, e.chunkSize(len(windows))) {
		if err := e.chunk(chunk); err != nil {
			return nil, cmp.Or(e.changed(), err) // logits of half a new file are nobody's fault
		}
	}
	if err := e.changed(); err != nil {
		return nil, err
	}
	e.saveRecords()
	return e.reports(), nil
}

// changed is the error of the first model whose weights were written to meanwhile: what
// they gave is of no checkpoint, and must not be kept under the hash of one.
func (e *evaluation) changed() error {
	for _, m := range e.models {
		if m.Unchanged == nil {
			continue
		}
		if err := m.Unchanged(); err != nil {
			return err
		}
	}
	return nil
}

// evaluation is the state of one run; model 0 is the base when paired.
type evaluation struct {
	ctx    context.Context
	o      Options
	models []Candidate
	paired bool
	window int
	texts  []*textRun

	heads []*model.Head // nil of a base that only its records speak for
	tally [][]rowStats  // of each model, of the block of rows in hand

	work progress
}

// textRun is a text under all models.
type textRun struct {
	Text
	windows int
	traces  []trace
	record  *record      // of the base, which then is not run on this text; nil: none
	draft   *recordDraft // of the base, while it is run; nil: none
}

// windowOf is a window of a text.
type windowOf struct {
	text, index int
	tokens      []int32
}

// idle says that nothing of model i has to be computed on the text.
func (e *evaluation) idle(i int, t *textRun) bool {
	return i == 0 && t.record != nil && e.o.WithoutKL
}

func (e *evaluation) loadHeads() error {
	e.heads, e.tally = make([]*model.Head, len(e.models)), make([][]rowStats, len(e.models))
	shared := map[string]*model.Head{}
	for i, m := range e.models {
		if !slices.ContainsFunc(e.texts, func(t *textRun) bool { return !e.idle(i, t) }) {
			continue
		}
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
		e.heads[i], e.tally[i] = h, make([]rowStats, headRows)
		e.texts[0].traces[i].spent = time.Since(start)
	}
	return nil
}

// chunkSize is the number of windows whose hidden states fit the budget.
func (e *evaluation) chunkSize(windows int) int {
	budget := e.o.HiddenBytes
	if budget == 0 {
		budget = defaultHiddenBytes
	}
	each := int64(0)
	for _, m := range e.models {
		each += 4 * int64(e.window) * int64(m.Model.Config.Hidden)
	}
	return int(max(1, min(budget/each, int64(windows))))
}
