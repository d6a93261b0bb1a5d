package main

import (
	"errors"
	"fmt"
	"io"

	"quantize/eval"
)

// text prints the table of verdicts.
func (r *gateResult) text(w io.Writer) {
	fmt.Fprint(w, eval.GateText(r.Budgets))
	if r.TokensPerSecond > 0 {
		fmt.Fprintf(w, "\n%s, %.0f tokens/s\n", r.Arithmetic, r.TokensPerSecond)
	}
}

// tell writes the files and prints the verdicts: what one of these cannot take keeps the
// others from nothing, and a gate that fails is told as one.
func (e *env) tell(r *gateResult, o gateOptions) error {
	written := r.write(o)
	return errors.Join(r.err(), written, e.print(r, r.text))
}

// err is the failure of a gate that does not pass.
func (r *gateResult) err() error {
	if r.OK {
		return nil
	}
	return fmt.Errorf("%w: %s", errGate, eval.GateSummary(r.Budgets))
}

// checkOutputs finds what would keep the files that the user wants from being written.
func (o gateOptions) checkOutputs() error {
	outputs := []namedFile{{"--write-baseline", o.writeBaseline}, {"--junit", o.junit}, {"--markdown", o.markdown}}
	inputs := []namedFile{{"--budget", o.budget}}
	for _, text := range o.texts {
		inputs = append(inputs, namedFile{"--text", text})
	}
	if err := apart(outputs, inputs); err != nil {
		return err
	}
	// A baseline may be written in the place of the one that was compared with.
	if err := apart(outputs[1:], []namedFile{{"--baseline", o.baseline}}); err != nil {
		return err
	}
	return writable(o.writeBaseline, o.junit, o.markdown)
}

// write makes the baseline and the reports for CI, of a gate that failed too: each one
// that can be written.
func (r *gateResult) write(o gateOptions) error {
	models := r.Model
	for i, v := range r.Budgets {
		if i > 0 && v.Model != r.Budgets[i-1].Model {
			models += ", " + v.Model
		}
	}
	if o.arithmetic != "" {
		models += " by " + r.Arithmetic // beside the comment on the other reading
	}
	baseline := writeOutput(r.Baseline, r.baseline)
	if baseline != nil {
		r.Baseline = "" // it is the file written
	}
	return errors.Join(baseline,
		writeOutput(o.junit, eval.GateJUnit(r.Budgets)),
		writeOutput(o.markdown, []byte(eval.GateMarkdown(models, r.Budgets))))
}
