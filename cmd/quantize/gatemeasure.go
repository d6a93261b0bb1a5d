package main

import (
	"context"
	"slices"

	"quantize/eval"
	"quantize/recipe"
)

// limited says that a budget reads the text: others need not be evaluated.
func limited(budgets []recipe.Budget, text string) bool {
	return slices.ContainsFunc(budgets, func(b recipe.Budget) bool {
		return b.Metric != recipe.Bytes && (b.Text == "" || b.Text == text)
	})
}

// measure evaluates the checkpoints by one reading, in one pass, and gives their reports to measured. It returns the baseline to write, if one is.
func (e *env) measure(ctx context.Context, dirs []string, open checkpoints, o gateOptions, budgets []recipe.Budget, baseline *recipe.Baseline, measured []eval.Measured) ([]byte, error) {
	in := evalOptions{texts: o.texts, base: o.base, window: o.window, windows: o.windows, cache: o.cache, open: open}
	if o.arithmetic != "" {
		in.arithmetic = []string{o.arithmetic}
	}
	m, err := e.measurement(ctx, dirs, in)
	if err != nil {
		return nil, err
	}
	defer m.close()
	m.onlyFirst()
	protocols, err := m.protocols()
	if err != nil {
		return nil, err
	}
	if baseline != nil || o.writeBaseline != "" {
		if err := m.identify(ctx); err != nil {
			return nil, err
		}
	}
	if baseline != nil {
		if err := eval.CheckBaseline(o.baseline, baseline, m.base.Name, m.baseSum, protocols); err != nil {
			return nil, err
		}
		if err := eval.CheckReading(o.baseline, baseline, m.candidates); err != nil {
			return nil, err
		}
	}
	readsKL := func(b recipe.Budget) bool { return b.Metric.IsKL() }
	reports, err := m.run(ctx, o.writeBaseline == "" && !slices.ContainsFunc(budgets, readsKL))
	if err != nil {
		return nil, err
	}
	for _, ofText := range reports {
		for i, r := range ofText {
			measured[i].Reports = append(measured[i].Reports, r)
		}
	}
	if o.writeBaseline == "" {
		return nil, nil
	}
	return eval.NewBaseline(measured[0], m.baseSum, protocols).Encode()
}

// speed is how fast the checkpoints ran, in tokens per second.
func speed(measured []eval.Measured) float64 {
	tokens, seconds := int64(0), 0.0
	for _, m := range measured {
		for _, r := range m.Reports {
			tokens, seconds = tokens+r.Tokens, seconds+r.Seconds
		}
	}
	return float64(tokens) / max(seconds, 1e-9)
}
