package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"quantize/calibrate"
	"quantize/eval"
	"quantize/eval/report"
	"quantize/internal/fault"
	"quantize/model/tokenizer"
	"quantize/recipe"
)

// reportOptions says what a report is made of and where it goes.
type reportOptions struct {
	html string // the file
	base string // checkpoint that the other was made from; "": not at hand
	text string // run through both models for their activations; "": none
	// budget is a file of budgets that the kept results are judged by; "": none.
	budget string
	// verdicts are those of a gate that was run already, shown in place of budget's.
	verdicts []eval.Verdict
}

// The text of a report is run for magnitudes, which a few windows show.
const (
	reportWindow  = 512
	reportWindows = 8
)

// writeReport describes the quantized checkpoint in dir on one page.
func (e *env) writeReport(ctx context.Context, dir string, o reportOptions) error {
	l, err := load(dir)
	if err != nil {
		return err
	}
	defer l.close()
	in := report.Input{Reader: l.reader, Gate: o.verdicts}
	if o.base != "" {
		base, err := load(o.base)
		if err != nil {
			return err
		}
		defer base.close()
		if err := sameShape(l, base); err != nil {
			return err
		}
		in.Base = base.reader
		if o.text != "" {
			if in.Observed, err = e.observe(ctx, l, base, o.text); err != nil {
				return err
			}
		}
	}
	if o.budget != "" {
		if in.Gate, err = judge(l, dir, o.budget); err != nil {
			return err
		}
	}
	r, err := report.Build(ctx, in)
	if err != nil {
		return err
	}
	page, err := r.HTML()
	if err != nil {
		return err
	}
	return writeOutput(o.html, page)
}

// judge compares the results that eval --save kept with budgets, as gate does: of each text
// the first reading that the configuration means, with the attention plan if there is one.
// Results of other checkpoints, as the demo keeps those of its plain one, are not judged.
func judge(l *loaded, dir, budget string) ([]eval.Verdict, error) {
	g, err := recipe.LoadGate(budget)
	if err != nil {
		return nil, err
	}
	kept, err := report.ReadResults(dir)
	if err != nil {
		return nil, err
	}
	meant := readings[l.scheme()][0]
	first := slices.DeleteFunc(report.OwnResults(kept), func(r eval.Report) bool { return r.Arithmetic != meant || r.Attention == "off" })
	if len(first) == 0 {
		return nil, &fault.Error{
			Err: eval.ErrInput, Where: dir, Found: "no kept result of the reading " + meant + " with the attention plan",
			Wanted: "what gate would judge", Hint: "quantize eval " + dir + " --save, without --arithmetic and --attention",
		}
	}
	if i := slices.IndexFunc(g.Budgets, recipe.Budget.Relative); i >= 0 {
		return nil, &fault.Error{
			Err: eval.ErrInput, Where: fmt.Sprintf("%s: budgets.%d", budget, i), Found: "a change from a baseline",
			Wanted: "max or min: kept results do not say which tokens they are of", Hint: "quantize gate --baseline",
		}
	}
	needsBase := func(b recipe.Budget) bool { return b.Metric != recipe.Bytes && b.Metric != recipe.Perplexity }
	if i := slices.IndexFunc(g.Budgets, needsBase); i >= 0 && slices.ContainsFunc(first, func(r eval.Report) bool { return r.Comparison == nil }) {
		return nil, &fault.Error{
			Err: eval.ErrInput, Where: dir, Found: "kept results without a base", Wanted: "what " + g.Budgets[i].Metric.String() + " compares with",
			Hint: "quantize eval " + dir + " --base MODEL --save",
		}
	}
	m := eval.Measured{Model: filepath.Base(filepath.Clean(dir)), Bytes: l.tensorBytes(), Reports: first}
	return eval.Gate(g.Budgets, m, nil)
}

// observe takes the statistics of both models on the first windows of a text.
func (e *env) observe(ctx context.Context, l, base *loaded, text string) (*report.Observed, error) {
	tok, err := tokenizer.Load(l.reader.Dir())
	if err != nil {
		return nil, err
	}
	tokens, err := calibrate.Tokens(tok, reportWindow*reportWindows, text)
	if err != nil {
		return nil, err
	}
	tokens = tokens[:min(len(tokens), reportWindow*reportWindows)]
	windows := calibrate.Windows(tokens, min(reportWindow, l.config.MaxPositions, len(tokens)), 0, 0)
	o := &report.Observed{Text: filepath.Base(text)}
	bar := e.progress("observe")
	defer bar.end()
	for i, m := range []struct {
		loaded *loaded
		stats  **calibrate.Stats
	}{{base, &o.Base}, {l, &o.Quantized}} {
		readings, err := m.loaded.candidates(ctx, m.loaded.reader.Dir(), nil)
		if err != nil {
			return nil, err
		}
		*m.stats, err = calibrate.Collect(ctx, readings[0].Model, windows, calibrate.Options{
			Points:  report.Points(),
			OnBlock: func(done, total int) { bar.set(int64(i*total+done), int64(2*total)) },
		})
		if err != nil {
			return nil, err
		}
	}
	return o, nil
}

// sameShape demands that two checkpoints can be compared.
func sameShape(l, base *loaded) error {
	if a, b := l.config, base.config; a.Arch.Name != b.Arch.Name || a.Layers != b.Layers || a.Hidden != b.Hidden {
		return &fault.Error{
			Err: eval.ErrInput, Where: base.reader.Dir(), Found: fmt.Sprintf("%s, %d layers, hidden size %d", b.Arch.Name, b.Layers, b.Hidden),
			Wanted: fmt.Sprintf("%s, %d layers, hidden size %d: what %s was made from", a.Arch.Name, a.Layers, a.Hidden, l.reader.Dir()),
		}
	}
	return fullPrecision(base)
}

// fullPrecision demands that of a base: against another, what quantization cost looks small.
func fullPrecision(base *loaded) error {
	if base.quant == nil {
		return nil
	}
	return &fault.Error{Err: eval.ErrInput, Where: base.reader.Dir(), Found: "a quantized checkpoint", Wanted: "the one of full precision that it was made from", Hint: "name that one as --base"}
}
