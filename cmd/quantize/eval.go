package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"quantize/eval"
	"quantize/eval/report"
	"quantize/internal/fault"
	"quantize/model/tokenizer"
	"quantize/packer"
)

type evalOptions struct {
	text       string
	base       string
	window     int
	windows    int
	arithmetic []string // readings; none: those the configuration means
	save       bool     // beside the manifest
	first      bool     // only the first reading of each checkpoint
}

// evalResult is the result of eval. A W4A8 checkpoint has two readings, and the
// first, vLLM's, stands at the top level; of several checkpoints, that of the first.
type evalResult struct {
	eval.Report
	Readings []eval.Report `json:"readings,omitempty"`
}

func newEvalCommand(e *env) *cobra.Command {
	var o evalOptions
	c := &cobra.Command{
		Use:   "eval MODEL... --text FILE",
		Short: "Perplexity, and with --base what quantization cost",
		Long: `Measure the perplexity of the checkpoint in MODEL on a text by the GPTQ protocol,
reading the written bytes and multiplying what its runtime multiplies. With --base
also KL divergence, top-1 agreement and the paired 95 % interval of the ratio.
Several MODELs, made of one base, share its run and the tokenizer of the first.

A W4A8 checkpoint is evaluated under both readings of its codes: lut, the table
of vLLM's kernel, and exact, the products q*scale that transformers forms.
--arithmetic takes other readings: weight-only is OUT/w4a16/config.json.`,
		Example: `  quantize eval out --base SmolLM2-135M --text wiki.txt --windows 20`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{fmt.Errorf("eval: found no arguments, wanted MODEL, a checkpoint directory")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if o.text == "" {
				return &usageError{fmt.Errorf("eval: no text (--text FILE)")}
			}
			if o.save && len(args) > 1 {
				return &usageError{fmt.Errorf("eval: found %d MODELs, wanted one to --save the results in", len(args))}
			}
			res, err := e.evaluate(c.Context(), args, o)
			if err != nil {
				return err
			}
			if o.save {
				if err := report.SaveResults(args[0], res.all()); err != nil {
					return err
				}
			}
			return e.print(res, res.text)
		},
	}
	c.Flags().StringVar(&o.text, "text", "", "UTF-8 text (required)")
	c.Flags().StringVar(&o.base, "base", "", "full-precision checkpoint to compare with")
	c.Flags().IntVar(&o.window, "window", 0, "tokens of a window (default 2048, or the trained context if that is less)")
	c.Flags().IntVar(&o.windows, "windows", 0, "the first so many windows (default all)")
	c.Flags().BoolVar(&o.save, "save", false, "keep the results in MODEL/quantize, for inspect --html")
	c.Flags().StringSliceVar(&o.arithmetic, "arithmetic", nil, "only these readings of W4A8 checkpoints: lut, exact, weight-only")
	return c
}

// arithmetics are the readings by name; full precision and FP8 have one.
var arithmetics = map[string]packer.Arithmetic{
	"lut": packer.LUT, "exact": packer.Exact, "weight-only": packer.WeightOnly,
	"bf16": packer.WeightOnly, "fp8": packer.Exact,
}

// evaluate runs eval: the candidates are the readings of the checkpoints.
func (e *env) evaluate(ctx context.Context, dirs []string, o evalOptions) (*evalResult, error) {
	tokens, bos, err := tokens(dirs[0], o.text)
	if err != nil {
		return nil, err
	}
	var candidates []eval.Candidate
	for _, dir := range dirs {
		l, err := load(dir)
		if err != nil {
			return nil, err
		}
		defer l.close()
		wanted := o.arithmetic
		if len(dirs) > 1 && l.scheme() != "w4a8" {
			wanted = nil // beside others that have readings to choose from
		}
		readings, err := l.candidates(dir, wanted)
		if err != nil {
			return nil, err
		}
		if o.first {
			readings = readings[:1]
		}
		candidates = append(candidates, readings...)
	}
	bar := e.progress("evaluate")
	defer bar.end()
	options := eval.Options{Text: filepath.Base(o.text), Window: o.window, Windows: o.windows, BOS: bos, OnProgress: bar.set}
	var reports []eval.Report
	if o.base == "" {
		reports, err = eval.Perplexity(ctx, candidates, tokens, options)
	} else {
		var b *loaded
		if b, err = load(o.base); err != nil {
			return nil, err
		}
		defer b.close()
		var base []eval.Candidate
		if base, err = b.candidates(o.base, nil); err != nil {
			return nil, err
		}
		reports, err = eval.Compare(ctx, base[0], candidates, tokens, options)
	}
	if err != nil {
		return nil, err
	}
	res := &evalResult{Report: reports[0]}
	if len(reports) > 1 {
		res.Readings = reports
	}
	return res, nil
}

// candidates are the readings of the checkpoint that are evaluated; wanted
// names them, none takes those its config.json means.
func (l *loaded) candidates(dir string, wanted []string) ([]eval.Candidate, error) {
	scheme := l.scheme()
	names := map[string][]string{"bf16": {"bf16"}, "fp8": {"fp8"}, "w4a16": {"weight-only"}, "w4a8": {"lut", "exact"}}[scheme]
	if len(wanted) > 0 {
		if scheme != "w4a8" && !slices.Equal(wanted, names) {
			return nil, &usageError{fmt.Errorf("%s is %s: it has one reading; leave --arithmetic out", dir, scheme)}
		}
		names = wanted
	}
	head, err := l.headID()
	if err != nil {
		return nil, err
	}
	var out []eval.Candidate
	for _, name := range names {
		a, ok := arithmetics[name]
		if !ok {
			return nil, &usageError{fmt.Errorf("--arithmetic: found %q, wanted lut, exact or weight-only", name)}
		}
		m, err := l.model(a)
		if err != nil {
			return nil, err
		}
		out = append(out, eval.Candidate{Model: m, Name: filepath.Base(filepath.Clean(dir)), Arithmetic: name, HeadID: head})
	}
	return out, nil
}

// tokens reads a text with the tokenizer of the checkpoint in dir; bos reports
// that the tokenizer put a token before it.
func tokens(dir, text string) (ids []int32, bos bool, err error) {
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return nil, false, err
	}
	data, err := os.ReadFile(text)
	if err != nil {
		return nil, false, &fault.Error{Err: eval.ErrInput, Where: text, Found: err.Error(), Wanted: "a readable text file"}
	}
	if !utf8.Valid(data) {
		return nil, false, &fault.Error{Err: eval.ErrInput, Where: text, Found: "bytes that are not UTF-8", Wanted: "UTF-8 text"}
	}
	plain, err := tok.Encode(string(data), false)
	if err != nil {
		return nil, false, err
	}
	ids, err = tok.Encode(string(data), true)
	return ids, err == nil && len(ids) > 0 && (len(plain) == 0 || ids[0] != plain[0]), err
}

// text prints the table of readings.
func (r *evalResult) text(w io.Writer) { printReports(w, r.all()) }

// all are the readings, one where there are no others.
func (r *evalResult) all() []eval.Report {
	if r.Readings == nil {
		return []eval.Report{r.Report}
	}
	return r.Readings
}

func printReports(w io.Writer, reports []eval.Report) {
	first := reports[0]
	fmt.Fprintf(w, "%s, %d windows of %d tokens\n%s\n\n", first.Text, first.Windows, first.Window, first.Protocol)
	fmt.Fprintf(w, "%-20s %-12s %10s %8s %9s %8s %10s\n", "model", "arithmetic", "perplexity", "ratio", "KL mean", "top-1", "tokens/s")
	if first.Comparison != nil {
		b := first.Base
		fmt.Fprintf(w, "%-20s %-12s %10.4f %8s %9s %8s %10.0f\n", b.Model, b.Arithmetic, b.Perplexity, "1", "", "", b.TokensPerSecond)
	}
	for _, r := range reports {
		fmt.Fprintf(w, "%-20s %-12s %10.4f", r.Model, r.Arithmetic, r.Perplexity)
		if c := r.Comparison; c != nil {
			fmt.Fprintf(w, " %8.4f %9.5f %7.1f%% %10.0f\n", r.Perplexity/c.Base.Perplexity, c.KLMean, 100*c.Top1Agreement, r.TokensPerSecond)
		} else {
			fmt.Fprintf(w, " %8s %9s %8s %10.0f\n", "", "", "", r.TokensPerSecond)
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
