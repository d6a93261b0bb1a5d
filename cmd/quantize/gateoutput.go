package main

import (
	"errors"
	"fmt"
	"io"

	"quantize/checkpoint"
	"quantize/eval"
	"quantize/internal/atomicfile"
)

// text prints the table of verdicts.
func (r *gateResult) text(w io.Writer) {
	fmt.Fprint(w, eval.GateText(r.Budgets))
	if r.TokensPerSecond > 0 {
		fmt.Fprintf(w, "\n%s, %.0f tokens/s\n", r.Arithmetic, r.TokensPerSecond)
	}
}

// err is the failure of a gate that does not pass.
func (r *gateResult) err() error {
	if r.OK {
		return nil
	}
	return fmt.Errorf("%w: %s", errGate, eval.GateSummary(r.Budgets))
}

// write makes the baseline and the reports for CI, of a gate that failed too.
func (r *gateResult) write(o gateOptions) error {
	models := r.Model
	for i, v := range r.Budgets {
		if i > 0 && v.Model != r.Budgets[i-1].Model {
			models += ", " + v.Model
		}
	}
	for _, f := range []struct {
		path string
		data []byte
	}{
		{r.Baseline, r.baseline},
		{o.junit, eval.GateJUnit(r.Budgets)},
		{o.markdown, []byte(eval.GateMarkdown(models, r.Budgets))},
	} {
		if f.path == "" {
			continue
		}
		if err := writeOutput(f.path, f.data); err != nil {
			return err
		}
	}
	return nil
}

func writeOutput(path string, data []byte) error {
	if err := atomicfile.Write(path, data); err != nil {
		return errors.Join(checkpoint.ErrOutput, err)
	}
	return nil
}
