package main

import (
	"path/filepath"

	"quantize/eval"
	"quantize/recipe"
)

// demoGate holds the demo's own result against the budgets that it wrote to
// dir/gate.yaml.
func demoGate(dir string, r eval.Report, bytes int64) (*gateResult, error) {
	g, err := recipe.LoadGate(filepath.Join(dir, "gate.yaml"))
	if err != nil {
		return nil, err
	}
	m := eval.Measured{Model: r.Model, Bytes: bytes, Reports: []eval.Report{r}}
	res := &gateResult{Model: r.Model, Arithmetic: r.Arithmetic, TokensPerSecond: r.TokensPerSecond}
	if res.Budgets, err = eval.Gate(g.Budgets, m, nil); err != nil {
		return nil, err
	}
	res.OK = eval.Count(res.Budgets, eval.Pass) == len(res.Budgets)
	return res, nil
}
