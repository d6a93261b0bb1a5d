package eval

import "math"

// Result is the perplexity of one model on one text. The JSON keys are those of
// docs/architecture.md, section 4.
type Result struct {
	Model           string  `json:"model"`
	Text            string  `json:"text"`
	Arithmetic      string  `json:"arithmetic"`          // what was multiplied: bf16, lut, exact, weight-only, fp8
	Attention       string  `json:"attention,omitempty"` // the plan, or "off" where one was left aside
	Window          int     `json:"window"`              // tokens of a window
	Windows         int     `json:"windows"`
	Tokens          int64   `json:"tokens"` // run through the model: Windows * Window
	NLL             float64 `json:"nll"`    // mean of the windows' means, in nats
	Perplexity      float64 `json:"perplexity"`
	Seconds         float64 `json:"seconds"` // of loading blocks, forward pass and NLL
	TokensPerSecond float64 `json:"tokens_per_second"`
	Protocol        string  `json:"protocol"`
}

// Comparison is a candidate against the base on the same positions.
type Comparison struct {
	Base          *Result     `json:"base,omitempty"`
	KLMean        float64     `json:"kl_mean"`   // of KL(base || candidate) per position, in nats
	KLMedian      float64     `json:"kl_median"` //
	KLP999        float64     `json:"kl_p999"`
	Top1Agreement float64     `json:"top1_agreement"`           // share of positions with the same argmax
	LnPPLRatio    float64     `json:"ln_ppl_ratio"`             // ln(candidate's perplexity / base's)
	CI95          *[2]float64 `json:"ci95,omitempty"`           // of LnPPLRatio, by Student's t over windows; absent below MinWindows
	CI95Bootstrap *[2]float64 `json:"ci95_bootstrap,omitempty"` // the same by bootstrap-t; absent also where too few windows differ from the rest
	WindowLnRatio []float64   `json:"window_ln_ratio,omitzero"` // the same for each window
}

// Report is the result of a candidate with its comparison, when there is a base.
type Report struct {
	Result
	*Comparison
}

// reports turns the traces into results.
func (e *evaluation) reports() []Report {
	results := make([]Result, len(e.models))
	for i, m := range e.models {
		t := &e.traces[i]
		nll := mean(windowMeans(t.nll, e.window-1))
		tokens := int64(e.total) * int64(e.window)
		results[i] = Result{
			Model: m.Name, Text: e.o.Text, Arithmetic: m.Arithmetic, Attention: m.Attention,
			Window: e.window, Windows: e.total, Tokens: tokens,
			NLL: nll, Perplexity: math.Exp(nll),
			Seconds: t.spent.Seconds(), TokensPerSecond: float64(tokens) / max(t.spent.Seconds(), 1e-9),
			Protocol: protocol(e.window, m.Model.Config.MaxPositions, e.o),
		}
	}
	if !e.paired {
		reports := make([]Report, len(results))
		for i, r := range results {
			reports[i] = Report{Result: r}
		}
		return reports
	}
	var reports []Report
	for i := range results[1:] {
		c := compare(&e.traces[0], &e.traces[i+1], e.window-1)
		c.Base = &results[0]
		reports = append(reports, Report{Result: results[i+1], Comparison: &c})
	}
	return reports
}
