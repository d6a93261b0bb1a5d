package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"quantize/eval"
	"quantize/eval/report"
)

type evalOptions struct {
	texts      []string
	base       string
	window     int
	windows    int
	arithmetic []string // readings; none: those the configuration means
	save       bool     // beside the manifest
	attention  string   // of the candidates: plan or off; "" is plan
	device     string   // of the candidates: one of deviceNames; "" is cpu
	cache      cacheOptions
	open       checkpoints // whoever opened these closes them; nil: none are open yet
}

// evalResult is the result of eval. A W4A8 checkpoint has two readings, and the
// first, vLLM's, stands at the top level; of several checkpoints, that of the
// first; of several texts, those of the first.
type evalResult struct {
	textResult
	Texts []textResult `json:"texts,omitempty"` // each of several
}

// textResult is all that was measured on one text.
type textResult struct {
	eval.Report
	Readings []eval.Report `json:"readings,omitempty"`
}

func newEvalCommand(e *env) *cobra.Command {
	var o evalOptions
	c := &cobra.Command{
		Use:   "eval MODEL... --text FILE...",
		Short: "Perplexity, and with --base what quantization cost",
		Long: `Measure the perplexity of the checkpoint in MODEL on a text by the GPTQ protocol,
reading the written bytes and multiplying what its runtime multiplies. With --base
also KL divergence, top-1 agreement and the paired 95 % interval of the ratio.
Several MODELs, made of one base, share its run and the tokenizer of the first;
several texts share one pass over the weights. What the base gave is kept in a
cache: a later run with the same base, text and windows reads it and has the same
numbers, to the bit.

A W4A8 checkpoint is evaluated under both readings of its codes: lut, the table
of vLLM's kernel, and exact, the products q*scale that transformers forms.
--arithmetic takes other readings: weight-only is OUT/w4a16/config.json.

--device cuda multiplies INT4 weights by FP8 activations, and attends by the plan, on
the card (a build with the GPU backend); the base stays on the CPU. auto takes the card
where there is one, and results name the device: the two round sums differently.

Where a MODEL has an attention plan, its attention is computed by it; --attention
off computes what runtimes do that do not read the plan.`,
		Example: `  quantize eval out --base SmolLM2-135M --text wiki.txt --windows 20`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{fmt.Errorf("eval: found no arguments, wanted MODEL, a checkpoint directory")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(o.texts) == 0 {
				return &usageError{fmt.Errorf("eval: no text (--text FILE)")}
			}
			if err := checkWindows(o.window, o.windows); err != nil {
				return err
			}
			if o.attention != "plan" && o.attention != "off" {
				return &usageError{fmt.Errorf("--attention: found %q, wanted plan or off", o.attention)}
			}
			if o.save && len(args) > 1 {
				return &usageError{fmt.Errorf("eval: found %d MODELs, wanted one to --save the results in", len(args))}
			}
			if o.save {
				if err := report.CanSave(args[0]); err != nil {
					return err // before the work, not after it
				}
				if err := writable(report.ResultsFile(args[0])); err != nil {
					return err
				}
			}
			res, err := e.evaluate(c.Context(), args, o)
			if err != nil {
				return err
			}
			if err := e.print(res, res.text); err != nil || !o.save {
				return err
			}
			return report.SaveResults(args[0], res.all())
		},
	}
	c.Flags().StringArrayVar(&o.texts, "text", nil, "UTF-8 text `FILE` (at least one; may be repeated)")
	c.Flags().StringVar(&o.base, "base", "", "full-precision checkpoint to compare with")
	c.Flags().IntVar(&o.window, "window", 0, windowHelp)
	c.Flags().IntVar(&o.windows, "windows", 0, "the first so many windows of each text (default all)")
	c.Flags().BoolVar(&o.save, "save", false, "keep the results in MODEL/quantize, for inspect --html")
	c.Flags().StringVar(&o.attention, "attention", "plan", "plan, or off for attention in full precision")
	c.Flags().StringSliceVar(&o.arithmetic, "arithmetic", nil, "only these readings of W4A8 checkpoints: lut, exact, weight-only")
	c.Flags().StringVar(&o.device, "device", "cpu", "of the MODELs: "+deviceNames)
	o.cache.flags(c)
	return c
}

// windowHelp describes --window of eval and of gate.
const windowHelp = "tokens of a window (default 2048, or the trained context if that is less)"

// checkWindows refuses what no text could have.
func checkWindows(window, windows int) error {
	for flag, n := range map[string]int{"--window": window, "--windows": windows} {
		if n < 0 {
			return &usageError{fmt.Errorf("%s: found %d, wanted a positive number, or none for the default", flag, n)}
		}
	}
	return nil
}

// evaluate runs eval: the candidates are the readings of the checkpoints.
func (e *env) evaluate(ctx context.Context, dirs []string, o evalOptions) (*evalResult, error) {
	m, err := e.measurement(ctx, dirs, o)
	if err != nil {
		return nil, err
	}
	defer m.close()
	reports, err := m.run(ctx, false)
	if err != nil {
		return nil, err
	}
	return newEvalResult(reports), nil
}

// newEvalResult arranges the reports of each text.
func newEvalResult(reports [][]eval.Report) *evalResult {
	var res evalResult
	for _, r := range reports {
		t := textResult{Report: r[0]}
		if len(r) > 1 {
			t.Readings = r
		}
		res.Texts = append(res.Texts, t)
	}
	res.textResult = res.Texts[0]
	if len(res.Texts) == 1 {
		res.Texts = nil
	}
	return &res
}

// text prints the table of readings of each text.
func (r *evalResult) text(w io.Writer) {
	for i, t := range r.texts() {
		if i > 0 {
			fmt.Fprintln(w)
		}
		printReports(w, t.all())
	}
}

// texts are the results of each text, one where there are no others.
func (r *evalResult) texts() []textResult {
	if r.Texts == nil {
		return []textResult{r.textResult}
	}
	return r.Texts
}

// all are the readings of all texts.
func (r *evalResult) all() []eval.Report {
	var all []eval.Report
	for _, t := range r.texts() {
		all = append(all, t.all()...)
	}
	return all
}

// all are the readings, one where there are no others.
func (t textResult) all() []eval.Report {
	if t.Readings == nil {
		return []eval.Report{t.Report}
	}
	return t.Readings
}

func printReports(w io.Writer, reports []eval.Report) {
	first := reports[0]
	fmt.Fprintf(w, "%s, %d windows of %d tokens\n%s\n\n", first.Text, first.Windows, first.Window, first.Protocol)
	fmt.Fprintf(w, "%-20s %-12s %10s %8s %9s %7s %8s %10s\n", "model", "arithmetic", "perplexity", "ratio", "KL mean", "median", "top-1", "tokens/s")
	if first.Comparison != nil {
		b := first.Base
		cached := ""
		if b.Cached {
			cached = " (cached)"
		}
		fmt.Fprintf(w, "%-20s %-12s %10.4f %8s %9s %7s %8s %10.0f%s\n", b.Model, b.Arithmetic, b.Perplexity, "1", "", "", "", b.TokensPerSecond, cached)
	}
	for _, r := range reports {
		fmt.Fprintf(w, "%-20s %-12s %10.4f", r.Model, r.Arithmetic, r.Perplexity)
		if c := r.Comparison; c != nil {
			fmt.Fprintf(w, " %8.4f %9.5f %7.5f %7.1f%% %10.0f\n", r.Perplexity/c.Base.Perplexity, c.KLMean, c.KLMedian, 100*c.Top1Agreement, r.TokensPerSecond)
		} else {
			fmt.Fprintf(w, " %8s %9s %7s %8s %10.0f\n", "", "", "", "", r.TokensPerSecond)
		}
	}
	for i, r := range reports {
		if r.Attention != "" && (i == 0 || r.Model != reports[i-1].Model) {
			fmt.Fprintf(w, "%-20s attention: %s\n", r.Model, r.Attention)
		}
	}
	if first.Comparison == nil {
		return
	}
	fmt.Fprintln(w)
	for _, r := range reports {
		fmt.Fprintf(w, "%-20s %-12s %s\n", r.Model, r.Arithmetic, interval(r))
	}
}

// interval is ln(PPL ratio) with its 95 % interval, or why it has none.
func interval(r eval.Report) string {
	s := fmt.Sprintf("ln(PPL ratio) %.4f, ", r.LnPPLRatio)
	if r.CI95 == nil {
		return s + fmt.Sprintf("no 95 %% interval: %d of the %d windows it needs", r.Windows, eval.MinWindows)
	}
	s += fmt.Sprintf("95 %% %.4f .. %.4f (%d windows, t)", r.CI95[0], r.CI95[1], r.Windows)
	if b := r.CI95Bootstrap; b != nil {
		s += fmt.Sprintf(", %.4f .. %.4f (bootstrap-t)", b[0], b[1])
	}
	return s
}
