package eval

// Result is the perplexity of one model on one text. The JSON keys are those of
// docs/architecture.md, section 4.
type Result struct {
	Model           string  `json:"model"`
	Text            string  `json:"text"`
	Arithmetic      string  `json:"arithmetic"` // what was multiplied: bf16, lut, exact, weight-only, fp8
	Window          int     `json:"window"`     // tokens of a window
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
	CI95          *[2]float64 `json:"ci95,omitempty"`           // of LnPPLRatio; absent below 10 windows
	WindowLnRatio []float64   `json:"window_ln_ratio,omitzero"` // the same for each window
}

// Report is the result of a candidate with its comparison, when there is a base.
type Report struct {
	Result
	*Comparison
}
