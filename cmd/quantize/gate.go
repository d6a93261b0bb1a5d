package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"quantize/eval"
	"quantize/recipe"
)

type gateOptions struct {
	budget        string
	baseline      string
	writeBaseline string
	base          string
	texts         []string
	window        int
	windows       int
	arithmetic    string // one reading of W4A8 checkpoints; "": the first that their configuration means
	junit         string
	markdown      string
	cache         cacheOptions
}

// gateResult is the result of gate. Of several checkpoints, Model and Arithmetic
// are those of the first; each verdict names its own.
type gateResult struct {
	OK              bool           `json:"ok"`
	Model           string         `json:"model"`
	Arithmetic      string         `json:"arithmetic,omitempty"` // absent where only bytes are limited
	Budgets         []eval.Verdict `json:"budgets"`
	TokensPerSecond float64        `json:"tokens_per_second,omitempty"` // of all checkpoints on all texts
	Baseline        string         `json:"baseline,omitempty"`          // the file written
	baseline        []byte         // its content
}

func newGateCommand(e *env) *cobra.Command {
	var o gateOptions
	c := &cobra.Command{
		Use:   "gate OUT... --base MODEL --budget FILE --text FILE...",
		Short: "Fail when quantization cost more than a budget allows",
		Long: `Evaluate the checkpoint in OUT beside MODEL on each text, as eval does, and compare
the numbers with the budgets of a YAML file; a W4A8 checkpoint by lut, the reading
of vLLM's kernel, unless --arithmetic names another (weight-only is the second
configuration, OUT/w4a16/config.json). A budget is exceeded beyond its limit, not at it:

  budgets:
  - {metric: perplexity_ratio, max: 1.02, confidence: true}
  - {metric: top1_agreement, min: 0.90, text: wiki.txt}
  - {metric: kl_mean, max_increase: 5%}
  - {metric: bytes, max: 150_000_000}

Metrics: perplexity, perplexity_ratio (OUT / MODEL), kl_mean, kl_median and
kl_p999 (in nats),
top1_agreement (0 to 1), bytes (of tensors). A budget without text holds on every
--text; text is a file name without directories. confidence compares the bound of
the 95 % interval over at least 10 windows.

max_increase and max_decrease are measured from the value in the --baseline file, in
the unit of the metric or, with a percent sign, as a share of it. --write-baseline
makes the file, also of a gate that fails; commit it beside the budgets. A baseline
of another base, text, number of windows or reading of W4A8 codes is refused.

A budget that cannot be compared (too few windows, a text or a value of the baseline
that is missing) fails the gate too, and is told apart from one that is exceeded.`,
		Example: `  quantize gate out --base SmolLM2-135M --budget gate.yaml --text wiki.txt --junit gate.xml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{errors.New("gate: found no arguments, wanted OUT, a quantized checkpoint")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			res, err := e.gate(c.Context(), args, o)
			if err != nil {
				return err
			}
			return e.tell(res, o)
		},
	}
	c.Flags().StringVar(&o.budget, "budget", "", "YAML file of budgets (required)")
	c.Flags().StringVar(&o.base, "base", "", "full-precision checkpoint to compare with (required)")
	c.Flags().StringArrayVar(&o.texts, "text", nil, "UTF-8 text `FILE` (required unless only bytes are limited; may be repeated)")
	c.Flags().IntVar(&o.window, "window", 0, windowHelp)
	c.Flags().IntVar(&o.windows, "windows", 0, "the first so many windows of each text (default all)")
	c.Flags().StringVar(&o.arithmetic, "arithmetic", "", "the reading of W4A8 checkpoints: lut, exact or weight-only (default lut)")
	c.Flags().StringVar(&o.baseline, "baseline", "", "JSON file that max_increase and max_decrease are measured from")
	c.Flags().StringVar(&o.writeBaseline, "write-baseline", "", "write what was measured of OUT to this file, for --baseline")
	c.Flags().StringVar(&o.junit, "junit", "", "also write the verdicts as JUnit XML to this file")
	c.Flags().StringVar(&o.markdown, "markdown", "", "also write the verdicts as a Markdown table to this file")
	o.cache.flags(c)
	return c
}

// gate judges the checkpoints. It refuses what it cannot judge before it
// evaluates anything.
func (e *env) gate(ctx context.Context, dirs []string, o gateOptions) (*gateResult, error) {
	g, baseline, err := o.load(len(dirs))
	if err != nil {
		return nil, err
	}
	names, err := namesOf("checkpoints", dirs)
	if err != nil {
		return nil, err
	}
	if err := o.checkOutputs(); err != nil {
		return nil, err
	}
	open, err := o.open(dirs)
	if err != nil {
		return nil, err
	}
	defer open.close()
	measured, err := o.sizes(dirs, names, open)
	if err != nil {
		return nil, err
	}
	res := &gateResult{Model: measured[0].Model}
	if o.writeBaseline == "" { // a baseline has them all
		o.texts = slices.DeleteFunc(o.texts, func(t string) bool { return !limited(g.Budgets, filepath.Base(t)) })
	}
	if len(o.texts) > 0 {
		written, err := e.measure(ctx, dirs, open, o, g.Budgets, baseline, measured)
		if err != nil {
			return nil, err
		}
		res.Arithmetic = measured[0].Reports[0].Arithmetic
		res.TokensPerSecond = speed(measured)
		if res.baseline = written; written != nil {
			res.Baseline = o.writeBaseline
		}
	} else if baseline != nil {
		if err := o.checkBase(ctx, open[o.base], baseline); err != nil {
			return nil, err
		}
	}
	for _, m := range measured {
		v, err := eval.Gate(g.Budgets, m, baseline)
		if err != nil {
			return nil, err
		}
		res.Budgets = append(res.Budgets, v...)
	}
	res.OK = eval.Count(res.Budgets, eval.Pass) == len(res.Budgets)
	return res, nil
}

// load reads the files of the options and finds what does not go together.
func (o gateOptions) load(models int) (*recipe.Gate, *recipe.Baseline, error) {
	for _, required := range []namedFile{{"--budget", o.budget}, {"--base", o.base}} {
		if required.path == "" {
			return nil, nil, &usageError{fmt.Errorf("gate: found no %s, wanted --budget FILE and --base MODEL", required.flag)}
		}
	}
	if err := checkWindows(o.window, o.windows); err != nil {
		return nil, nil, err
	}
	if _, ok := arithmetics[o.arithmetic]; !ok && o.arithmetic != "" {
		return nil, nil, unknownReading(o.arithmetic)
	}
	g, err := recipe.LoadGate(o.budget)
	if err != nil {
		return nil, nil, err
	}
	names, err := textNames(o.texts)
	if err != nil {
		return nil, nil, err
	}
	needsText := func(b recipe.Budget) bool { return b.Metric != recipe.Bytes }
	switch {
	case len(o.texts) == 0 && (slices.ContainsFunc(g.Budgets, needsText) || o.writeBaseline != ""):
		return nil, nil, &usageError{fmt.Errorf("gate: found no text, wanted one to evaluate (--text FILE, once for each; only a gate of bytes alone has none)")}
	case models > 1 && o.writeBaseline != "":
		return nil, nil, &usageError{fmt.Errorf("gate: found %d checkpoints, wanted one for --write-baseline", models)}
	case o.baseline != "":
		b, err := recipe.LoadBaseline(o.baseline)
		if err == nil {
			err = b.Covers(o.baseline, g.Budgets, names)
		}
		return g, b, err
	case o.writeBaseline == "" && slices.ContainsFunc(g.Budgets, recipe.Budget.Relative):
		return nil, nil, &usageError{fmt.Errorf("gate: %s has max_increase or max_decrease, wanted what they are measured from (--baseline FILE; --write-baseline FILE makes one, and passes no such budget yet)", o.budget)}
	}
	return g, nil, nil
}

// checkBase holds the base to that of the baseline, where no text is read.
func (o gateOptions) checkBase(ctx context.Context, base *loaded, baseline *recipe.Baseline) error {
	sum, err := base.contentSum(ctx)
	if err != nil {
		return err
	}
	return eval.CheckBaseline(o.baseline, baseline, filepath.Base(filepath.Clean(o.base)), sum, nil)
}
