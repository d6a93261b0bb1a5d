package eval

import "math"

// Result is the perplexity of one model on one text. The JSON keys are those of
// docs/architecture.md, section 4.
type Result struct {
	Model           string  `json:"model"`
	Text            string  `json:"text"`
	Arithmetic      string  `json:"arithmetic"`          // what was multiplied: bf16, lut, exact, weight-only, fp8
	Device          string  `json:"device,omitempty"`    // cpu, or cuda where a card multiplied or attended
	Attention       string  `json:"attention,omitempty"` // the plan, or "off" where one was left aside
	Window          int     `json:"window"`              // tokens of a window
	Windows         int     `json:"windows"`
	Tokens          int64   `json:"tokens"` // run through the model: Windows * Window
	NLL             float64 `json:"nll"`    // mean of the windows' means, in nats
	Perplexity      float64 `json:"perplexity"`
	Seconds         float64 `json:"seconds"` // of loading blocks, forward pass and NLL
	TokensPerSecond float64 `json:"tokens_per_second"`
	Protocol        string  `json:"protocol"`
	Cached          bool    `json:"cached,omitempty"` // a base's: read from the cache; Seconds are of the run that filled it
}

// Comparison is a candidate against the base on the same positions. The KL
// divergences are NaN under [Options.WithoutKL], which JSON does not have.
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

// reports turns the traces into results, of each text for each candidate.
func (e *evaluation) reports() [][]Report {
	all := make([][]Report, len(e.texts))
	for t, text := range e.texts {
		results := make([]Result, len(e.models))
		for i := range e.models {
			results[i] = e.result(i, text)
		}
		if !e.paired {
			for _, r := range results {
				all[t] = append(all[t], Report{Result: r})
			}
			continue
		}
		for i := range results[1:] {
			c := compare(&text.traces[0], &text.traces[i+1], e.window-1)
			c.Base = &results[0]
			all[t] = append(all[t], Report{Result: results[i+1], Comparison: &c})
		}
	}
	return all
}

// result is that of model i on a text.
func (e *evaluation) result(i int, text *textRun) Result {
	m, t := e.models[i], &text.traces[i]
	nll := mean(windowMeans(t.nll, e.window-1))
	tokens := int64(text.windows) * int64(e.window)
	r := Result{
		Model: m.Name, Text: text.Name, Arithmetic: m.Arithmetic, Device: m.Device, Attention: m.Attention,
		Window: e.window, Windows: text.windows, Tokens: tokens,
		NLL: nll, Perplexity: math.Exp(nll), Seconds: t.spent.Seconds(),
		Protocol: protocol(e.window, m.Model.Config.MaxPositions, text.BOS, e.o),
	}
	if i == 0 && text.record != nil {
		r.Cached, r.Seconds = true, text.record.seconds
	}
	r.TokensPerSecond = float64(tokens) / max(r.Seconds, 1e-9)
	return r
}
