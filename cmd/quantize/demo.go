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
(recipe %s, DIR/plain). DIR/report.html shows it all. DIR/base is there to try every
other command on.`, demoRecipe, demoWindows, demoPlain),
		Args: cobra.NoArgs,
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
			return nil
		},
	}
	c.Flags().StringVarP(&dir, "dir", "o", dir, "working directory; what an earlier demo left in it is replaced")
	return c
}

func (e *env) demo(ctx context.Context, dir string) (*demoResult, error) {
	start := time.Now()
	if err := unpackDemo(dir); err != nil {
		return nil, err
	}
	base, text := filepath.Join(dir, "base"), filepath.Join(dir, "evaluation.txt")
	var res demoResult
	for _, v := range []struct {
		recipe, out string
		eval        **evalResult
	}{{demoPlain, "plain", &res.Plain}, {demoRecipe, "quantized", &res.Quantized}} {
		r, err := recipe.Load(v.recipe)
		if err != nil {
			return nil, err
		}
		out := filepath.Join(dir, v.out)
		if err := removeOurs(out); err != nil {
			return nil, err
		}
		res.runResult, err = e.quantize(ctx, job{model: base, out: out, recipe: r, calib: []string{filepath.Join(dir, "calibration.txt")}, fresh: true})
		if err != nil {
			return nil, err
		}
		*v.eval, err = e.evaluate(ctx, []string{out}, evalOptions{text: text, base: base, windows: demoWindows})
		if err != nil {
			return nil, err
		}
	}
	res.Base = res.Quantized.Base
	var err error
	if res.Verify, err = packer.Verify(res.Output); err != nil {
		return nil, err
	}
	if err := report.SaveResults(res.Output, append(slices.Clone(res.Quantized.all()), res.Plain.all()...)); err != nil {
		return nil, err
	}
	res.Report = filepath.Join(dir, "report.html")
	if err := e.writeReport(ctx, res.Output, reportOptions{html: res.Report, base: base, text: text}); err != nil {
		return nil, err
	}
	res.Seconds, res.PeakRSS = time.Since(start).Seconds(), peakRSS()
	return &res, nil
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
	fmt.Fprintf(w, "\nreport: %s\n", r.Report)
	fmt.Fprintf(w, "next: quantize verify %s; quantize inspect %s\n", r.Output, filepath.Join(filepath.Dir(r.Output), "base"))
}
