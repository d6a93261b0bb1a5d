package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"quantize/checkpoint"
	"quantize/eval"
	"quantize/internal/atomicfile"
	"quantize/recipe"
)

type gateOptions struct {
	budget   string
	base     string
	texts    []string
	windows  int
	junit    string
	markdown string
}

// gateResult is the result of gate.
type gateResult struct {
	OK         bool           `json:"ok"`
	Model      string         `json:"model"`
	Arithmetic string         `json:"arithmetic,omitempty"` // absent where only bytes are limited
	Budgets    []eval.Verdict `json:"budgets"`
}

func newGateCommand(e *env) *cobra.Command {
	var o gateOptions
	c := &cobra.Command{
		Use:   "gate OUT --base MODEL --budget FILE --text FILE...",
		Short: "Fail when quantization cost more than a budget allows",
		Long: `Evaluate the checkpoint in OUT beside MODEL on each text, as eval does, and compare
the numbers with the budgets of a YAML file; a W4A8 checkpoint by lut, the reading
of vLLM's kernel. A budget is exceeded beyond its limit, not at it:

  budgets:
  - {metric: perplexity_ratio, max: 1.02, confidence: true}
  - {metric: top1_agreement, min: 0.90, text: wiki.txt}
  - {metric: bytes, max: 150_000_000}

Metrics: perplexity, perplexity_ratio (OUT / MODEL), kl_mean and kl_p999 (in nats),
top1_agreement (0 to 1), bytes (of tensors). A budget without text holds on every
--text; text is a file name without directories. confidence compares the bound of
the 95 % interval over at least 10 windows: with fewer the budget fails.`,
		Example: `  quantize gate out --base SmolLM2-135M --budget gate.yaml --text wiki.txt --junit gate.xml`,
		Args:    oneArg("OUT, a quantized checkpoint"),
		RunE: func(c *cobra.Command, args []string) error {
			res, err := e.gate(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			if err := e.print(res, func(w io.Writer) { _, _ = io.WriteString(w, eval.GateText(res.Budgets)) }); err != nil {
				return err
			}
			if err := res.write(o); err != nil {
				return err
			}
			if !res.OK {
				return fmt.Errorf("%w: %d of %d budgets exceeded", errGate, eval.Exceeded(res.Budgets), len(res.Budgets))
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.budget, "budget", "", "YAML file of budgets (required)")
	c.Flags().StringVar(&o.base, "base", "", "full-precision checkpoint to compare with (required)")
	c.Flags().StringSliceVar(&o.texts, "text", nil, "UTF-8 texts (required unless only bytes are limited)")
	c.Flags().IntVar(&o.windows, "windows", 0, "the first so many windows of each text (default all)")
	c.Flags().StringVar(&o.junit, "junit", "", "also write the verdicts as JUnit XML to this file")
	c.Flags().StringVar(&o.markdown, "markdown", "", "also write the verdicts as a Markdown table to this file")
	return c
}

// gate refuses what it cannot judge before it evaluates anything.
func (e *env) gate(ctx context.Context, dir string, o gateOptions) (*gateResult, error) {
	if o.budget == "" || o.base == "" {
		return nil, &usageError{errors.New("gate: found no --budget or no --base, wanted --budget FILE and --base MODEL")}
	}
	g, err := recipe.LoadGate(o.budget)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(o.texts))
	for i, t := range o.texts {
		names[i] = filepath.Base(t)
		if slices.Contains(names[:i], names[i]) {
			return nil, &usageError{fmt.Errorf("gate: found two texts named %s, wanted names that tell them apart", names[i])}
		}
	}
	if err := eval.CheckTexts(g.Budgets, names); err != nil {
		return nil, err
	}
	l, err := load(dir)
	if err != nil {
		return nil, err
	}
	size := l.tensorBytes()
	l.close()

	res := &gateResult{Model: filepath.Base(filepath.Clean(dir))}
	var reports []eval.Report
	for i, text := range o.texts {
		if !limited(g.Budgets, names[i]) {
			continue
		}
		r, err := e.evaluate(ctx, []string{dir}, evalOptions{text: text, base: o.base, windows: o.windows, first: true})
		if err != nil {
			return nil, err
		}
		reports = append(reports, r.Report)
		res.Arithmetic = r.Arithmetic
	}
	if res.Budgets, err = eval.Gate(g.Budgets, reports, size); err != nil {
		return nil, err
	}
	res.OK = eval.Exceeded(res.Budgets) == 0
	return res, nil
}

// limited says that a budget reads the text: others need not be evaluated.
func limited(budgets []recipe.Budget, text string) bool {
	return slices.ContainsFunc(budgets, func(b recipe.Budget) bool {
		return b.Metric != recipe.Bytes && (b.Text == "" || b.Text == text)
	})
}

// write makes the reports for CI, of a gate that failed too.
func (r *gateResult) write(o gateOptions) error {
	for _, f := range []struct {
		path string
		data []byte
	}{
		{o.junit, eval.GateJUnit(r.Model, r.Budgets)},
		{o.markdown, []byte(eval.GateMarkdown(r.Model, r.Budgets))},
	} {
		if f.path == "" {
			continue
		}
		if err := atomicfile.Write(f.path, f.data); err != nil {
			return errors.Join(checkpoint.ErrOutput, err)
		}
	}
	return nil
}
