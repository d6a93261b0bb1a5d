package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/tokenizer"
	"quantize/packer"
	"quantize/recipe"
	"quantize/tensor"
)

// job is one quantization: what `run` does, and `demo` twice.
type job struct {
	model  string // source directory, never written to
	out    string // must not exist or be empty
	recipe *recipe.Recipe
	calib  []string // text files; used when the recipe weighs errors by activations
	fresh  bool     // discards what an earlier run has finished
	once   bool     // keeps nothing for a later run, which starts over
	memory int64    // for the hidden states of the calibration text, 0 for no bound
}

// runResult is the result of run; the keys are those of docs/architecture.md.
type runResult struct {
	Output     string     `json:"output"`
	Recipe     string     `json:"recipe"`
	Scheme     string     `json:"scheme"`
	GroupSize  int        `json:"group_size,omitempty"`
	Grid       string     `json:"grid,omitempty"` // the products that the codes were chosen against
	Layers     int        `json:"layers"`         // quantized linears
	Fallbacks  []fallback `json:"fallbacks"`      // linears that the recipe does not leave as they are and that are
	Ignored    []string   `json:"ignored"`
	Transforms []string   `json:"transforms"` // what was rotated, and by what
	Runtimes   []string   `json:"runtimes"`
	SNR        float64    `json:"snr_db"` // of all quantized weights together
	Worst      []layerSNR `json:"worst_layers"`
	FloorRows  int        `json:"floor_rows"`

	// Outputs are on the calibration text; nil where no Hessians of it were made.
	Outputs []packer.LayerOutput `json:"outputs,omitempty"`

	// Rounding is what FP8 activations and the cache cost; nil: there are none, or no text was read.
	Rounding *packer.Rounding `json:"rounding,omitempty"`

	// Experts has a row for each block with experts, where calibration text was run.
	Experts []packer.ExpertCoverage `json:"experts,omitempty"`

	// Attention is the plan in the sidecar, for our own kernels; nil: none.
	Attention *packer.AttentionPlan `json:"attention,omitempty"`

	BytesIn  int64   `json:"bytes_in"`
	BytesOut int64   `json:"bytes_out"`
	Resumed  int     `json:"resumed_blocks"` // that an earlier run had finished
	Seconds  float64 `json:"seconds"`
	PeakRSS  int64   `json:"peak_rss_bytes"`
}

type fallback struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

type layerSNR struct {
	Name string  `json:"name"`
	SNR  float64 `json:"snr_db"`
}

// collectAt is the share of garbage that makes the collector run during
// quantization: weights come and go by the hundred megabytes, and the default
// of 100 would let twice that stand.
const collectAt = 50

// quantize does the job: statistics where the recipe wants them, then rounding
// and writing, one linear at a time. What is finished goes to a journal, from
// which the next run takes it when this one ends too early.
func (e *env) quantize(ctx context.Context, j job) (res *runResult, err error) {
	start := time.Now()
	defer debug.SetGCPercent(debug.SetGCPercent(collectAt))
	if err := outside(j.model, j.out); err != nil {
		return nil, err
	}
	journal, err := e.openJournal(j.out)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && j.once {
			err = errors.Join(err, journal.Done())
		}
		e.closeJournal(journal, err)
	}()
	l, err := load(j.model)
	if err != nil {
		return nil, err
	}
	defer l.close()
	o, err := exportOptions(l.config, j.recipe)
	if err != nil {
		return nil, err
	}
	preview, err := l.check(o)
	if err != nil {
		return nil, err
	}
	windows, err := e.begin(ctx, l, j, journal)
	if err != nil {
		return nil, err
	}
	defer limitMemory(l, j, preview)()
	res, err = e.work(ctx, l, j, windows, o)
	if err != nil {
		return nil, j.kept(journal, l.config.Layers, err)
	}
	if res.Attention, err = writtenPlan(j.out); err != nil {
		return nil, err
	}
	res.Seconds, res.PeakRSS = time.Since(start).Seconds(), peakRSS()
	return res, nil
}

// limitMemory makes the collector keep to what plan announces, as far as what is in use
// lets it: a large model's garbage comes by the gigabyte, and the share of collectAt alone
// would let some stand that nobody was told of. GOMEMLIMIT in the environment is the user's
// own limit. The result ends it.
func limitMemory(l *loaded, j job, preview *packer.Preview) (restore func()) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	peak := (&estimate{l.config, j.recipe, preview, j.memory}).peakRAM()
	before := debug.SetMemoryLimit(peak - mapped - peak/16) // which a large tensor can overshoot
	return func() { debug.SetMemoryLimit(before) }
}

// work does the job between the opening of its journal and the end.
func (e *env) work(ctx context.Context, l *loaded, j job, windows [][]int32, o packer.ExportOptions) (*runResult, error) {
	o.Journal, o.Sources = l.journal, l.sums
	release, err := e.prepare(ctx, l, j, windows, &o)
	if err != nil {
		return nil, err
	}
	defer release()
	bar := e.progress("quantize")
	o.Progress = func(done, total int64, _ *packer.Layer) { bar.set(done, total) }
	report, err := packer.Export(ctx, l.reader, j.out, o)
	bar.end()
	if err != nil {
		return nil, err
	}
	res := newRunResult(j, report, o.Notes)
	res.Rounding = o.Rounding
	return res, nil
}

// exportOptions translates a recipe for the packer.
func exportOptions(cfg *model.Config, r *recipe.Recipe) (packer.ExportOptions, error) {
	o := packer.ExportOptions{Model: cfg, Recipe: string(r.Encode()), Tool: tool}
	switch r.Scheme {
	case recipe.W4A8FP8:
		o.Scheme = packer.W4A8
	case recipe.W4A16:
		o.Scheme = packer.W4A16
	case recipe.FP8Dynamic:
		o.Scheme = packer.FP8
	default:
		return o, fmt.Errorf("recipe %s: %w: scheme %s", r.Name, recipe.ErrInvalid, r.Scheme)
	}
	o.Int4 = packer.Int4Options{Grid: grid(r), Search: r.Weights.Search, GroupSize: max(int(r.Weights.GroupSize), 0)}
	modules := []string{cfg.Arch.Head}
	o.Linears = []string{}
	for _, t := range model.Tensors(cfg) {
		if t.Kind != model.KindLinear {
			continue
		}
		modules = append(modules, t.Module)
		if !r.Ignored(t.Module) {
			o.Linears = append(o.Linears, t.Module)
		}
	}
	if unused := r.UnusedIgnores(modules); len(unused) > 0 {
		return o, fmt.Errorf("recipe %s: %w: ignore: %q matches no linear of this model, for example %s", r.Name, recipe.ErrInvalid, unused[0], modules[min(1, len(modules)-1)])
	}
	bad := packer.FusedFaults(modules[1:], func(module string) string {
		if r.Ignored(module) {
			return ""
		}
		return "quantized"
	})
	if len(bad) > 0 {
		return o, fmt.Errorf("recipe %s: %w: ignore: %s", r.Name, recipe.ErrInvalid, bad[0])
	}
	return o, nil
}

// prepare makes the transforms and the rounding that the recipe wants, from its
// calibration text where one is read. release frees what the rounding holds.
func (e *env) prepare(ctx context.Context, l *loaded, j job, windows [][]int32, o *packer.ExportOptions) (release func(), err error) {
	release = func() {}
	if j.recipe.Calibrated() {
		o.Calibration = packer.NewCalibration(windows)
	}
	t, err := e.transform(ctx, l, j.recipe, windows)
	if err != nil {
		return nil, err
	}
	var why string
	if o.CacheScales, why = t.sidecar.CacheContract(); why != "" {
		t.note("%s", why)
	}
	o.Notes, o.Private, o.Tokens = t.notes, t.private, t.tokens
	if o.Rounding, err = e.measureRounding(ctx, l, j, windows, t); err != nil {
		return nil, err
	}
	if err := e.planAttention(l, j, windows, t, o); err != nil {
		return nil, err
	}
	if t.sidecar != nil {
		data, err := packer.EncodeSidecar(t.sidecar)
		if err != nil {
			return nil, err
		}
		o.Files = map[string][]byte{packer.SidecarPath: data}
	}
	if len(t.list) > 0 {
		if o.Folded, err = l.fold(t.list); err != nil {
			return nil, err
		}
	}
	switch {
	case j.recipe.Weights.Rounding == recipe.GPTQ:
		target, err := l.runtime(t.sidecar)
		if err != nil {
			return nil, err
		}
		s, err := l.sequential(j.recipe, windows, t.list, target)
		if err != nil {
			return nil, err
		}
		o.Quantize, o.Restored = s.Quantize, s.Restored
		release = func() { _ = s.Close() } // what it held is of no use now
	case j.recipe.Weights.Importance == recipe.Activations:
		points := append([]model.Point{model.ExpertIn}, calibrate.LinearInputs...)
		stats, err := e.collect(ctx, l, windows, t.list, calibrate.Options{Points: points, Phase: &calibrate.Phase{Key: "statistics"}})
		if err != nil {
			return nil, err
		}
		o.Tokens = expertTokens(l.config, stats)
		o.Quantize = weighted(l.config, stats)
	}
	if t.clips != nil {
		o.Quantize = clipped(t.clips, o.Quantize)
	}
	return release, nil
}

// weighted rounds each weight with the mean squared activation of its inputs as
// importance (AWQ's observation, arXiv 2306.00978, section 3.1, as a weight of
// the scale search: methods.md 4.5).
func weighted(cfg *model.Config, stats *calibrate.Stats) rounder {
	sites := map[string]model.Site{}
	for _, t := range model.Tensors(cfg) {
		if t.Kind == model.KindLinear {
			sites[t.Module] = model.Site{Layer: t.Layer, Point: t.Input()}
		}
	}
	return func(_ context.Context, module string, w tensor.Matrix, o packer.Int4Options) (packer.Weight, packer.Layer, error) {
		site := stats.Site(sites[module])
		if site == nil { // an expert that no token reached
			return nearest(w, o)
		}
		mean := site.MeanSquare()
		o.Importance = make([]float32, len(mean))
		for k, v := range mean {
			o.Importance[k] = float32(v)
		}
		return nearest(w, o)
	}
}

// rounder is the function of packer.ExportOptions.
type rounder func(context.Context, string, tensor.Matrix, packer.Int4Options) (packer.Weight, packer.Layer, error)

func nearest(w tensor.Matrix, o packer.Int4Options) (packer.Weight, packer.Layer, error) {
	q, report, err := packer.QuantizeInt4(w, o)
	if err != nil {
		return nil, packer.Layer{}, err
	}
	return q, report.Layer(), nil
}

var _ calibrate.Tokenizer = (*tokenizer.Tokenizer)(nil)
