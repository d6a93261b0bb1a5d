package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"quantize/checkpoint"
	"quantize/eval"
	"quantize/eval/report"
	"quantize/packer"
	"quantize/recipe"
)

// demoRecipe is the best there is for the embedded model, demoPlain what it is
// measured against.
const (
	demoRecipe = "best"
	demoPlain  = "rtn-plain"
)

// demoWindows is the stated subset of the evaluation text.
const demoWindows = 40

// demoResult is the result of demo.
type demoResult struct {
	*runResult
	Base      *eval.Result         `json:"base"`
	Quantized *evalResult          `json:"quantized"`
	Plain     *evalResult          `json:"plain"` // the same scheme by recipe rtn-plain
	Verify    *packer.Verification `json:"verify"`
	Gate      *gateResult          `json:"gate"`   // of Quantized, by gate.yaml
	Report    string               `json:"report"` // the page that describes Quantized
}

func newDemoCommand(e *env) *cobra.Command {
	dir := "quantize-demo"
	c := &cobra.Command{
		Use:   "demo",
		Short: "Quantize an embedded model, the whole way, in under a minute",
		Long: fmt.Sprintf(`Write the embedded model (3.7 M parameters, with the outliers of large models) to
DIR/base, quantize it to DIR/quantized by recipe %s, verify the result, and
evaluate it on the first %d windows of DIR/evaluation.txt beside plain rounding
(recipe %s, DIR/plain); its accuracy is held against DIR/gate.yaml. DIR/report.html
shows it all. DIR/base is there to try every other command on.`, demoRecipe, demoWindows, demoPlain),
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			res, err := e.demo(c.Context(), dir)
			if err != nil {
				return err
			}
			if err := e.print(res, res.text); err != nil {
				return err
			}
			if !res.Verify.OK {
				return fmt.Errorf("%s: %w", res.Output, errVerify)
			}
			return res.Gate.err()
		},
	}
	c.Flags().StringVarP(&dir, "dir", "o", dir, "working directory; what an earlier demo left in it is replaced")
	return c
}

// demo holds the directory from the first file to the last: another demo there would
// replace what this one still reads.
func (e *env) demo(ctx context.Context, dir string) (res *demoResult, err error) {
	release, err := checkpoint.LockDirectory(dir)
	var place *fs.PathError
	switch {
	case errors.As(err, &place):
		return nil, outputFault(dir, err)
	case err != nil: // another demo is at work in it
		return nil, err
	}
	defer func() { _ = release() }() // a lock file that stays locks nobody out
	if res, err = e.demoIn(ctx, dir); err != nil && ctx.Err() != nil {
		return nil, &keptError{err, dir + " is not complete, and the same command starts over"}
	}
	return res, err
}

func (e *env) demoIn(ctx context.Context, dir string) (*demoResult, error) {
	start := time.Now()
	if err := unpackDemo(dir); err != nil {
		return nil, err
	}
	var res demoResult
	res.Report = filepath.Join(dir, "report.html")
	if err := writable(res.Report); err != nil {
		return nil, err
	}
	base, text := filepath.Join(dir, "base"), filepath.Join(dir, "evaluation.txt")
	plain := filepath.Join(dir, "plain")
	for _, v := range []struct{ recipe, out string }{{demoPlain, plain}, {demoRecipe, filepath.Join(dir, "quantized")}} {
		r, err := recipe.Load(v.recipe)
		if err != nil {
			return nil, err
		}
		if err := removeOurs(v.out); err != nil {
			return nil, err
		}
		res.runResult, err = e.quantize(ctx, job{model: base, out: v.out, recipe: r, calib: []string{filepath.Join(dir, "calibration.txt")}, fresh: true, once: true})
		if err != nil {
			return nil, err
		}
	}
	var err error
	if res.Verify, err = packer.Verify(ctx, res.Output); err != nil {
		return nil, err
	}
	if err := res.evaluate(ctx, e, plain, evalOptions{texts: []string{text}, base: base, windows: demoWindows, cache: cacheOptions{off: true}}); err != nil {
		return nil, err
	}
	if err := report.SaveResults(res.Output, append(slices.Clone(res.Quantized.all()), res.Plain.all()...)); err != nil {
		return nil, err
	}
	if res.Gate, err = demoGate(dir, res.Quantized.Report, res.BytesOut); err != nil {
		return nil, err
	}
	if err := e.writeReport(ctx, res.Output, reportOptions{html: res.Report, base: base, text: text, verdicts: res.Gate.Budgets}); err != nil {
		return nil, err
	}
	res.Seconds, res.PeakRSS = time.Since(start).Seconds(), peakRSS()
	return &res, nil
}

// evaluate measures both checkpoints in one pass, beside one run of the base; the
// report reads what is kept of it. Nothing goes to the user's cache: the demo
// writes to its directory alone.
func (r *demoResult) evaluate(ctx context.Context, e *env, plain string, o evalOptions) error {
	m, err := e.measurement(ctx, []string{r.Output, plain}, o)
	if err != nil {
		return err
	}
	defer m.close()
	reports, err := m.run(ctx, false)
	if err != nil {
		return err
	}
	r.Quantized, r.Plain = newEvalResult(m.of(0, reports)), newEvalResult(m.of(1, reports))
	r.Base = r.Quantized.Base
	return nil
}

// removeOurs removes what an earlier demo wrote, and nothing else: a directory
// without our manifest is left, and makes the writing fail with its reason.
func removeOurs(dir string) error {
	_, err := os.Stat(filepath.Join(dir, packer.ManifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func (r *demoResult) text(w io.Writer) {
	r.runResult.text(w)
	failed := 0
	for _, c := range r.Verify.Checks {
		if !c.OK {
			failed++
		}
	}
	if failed == 0 {
		fmt.Fprintf(w, "  verify    PASS, %d checks\n\n", len(r.Verify.Checks))
	} else {
		fmt.Fprintf(w, "  verify    FAIL, %d of %d checks\n\n", failed, len(r.Verify.Checks))
	}
	printReports(w, append(append([]eval.Report{}, r.Quantized.Readings...), r.Plain.Readings...))
	fmt.Fprintln(w)
	r.Gate.text(w)
	fmt.Fprintf(w, "\nreport: %s\n", r.Report)
	fmt.Fprintf(w, "next: quantize verify %s; quantize inspect %s\n", r.Output, filepath.Join(filepath.Dir(r.Output), "base"))
}
