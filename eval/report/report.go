package report

import (
	"quantize/eval"
	"quantize/packer"
)

// Report is everything that a page shows. A nil or empty part was not measured and
// has no section.
type Report struct {
	Name    string // of the checkpoint's directory
	Base    string // of the base's directory; "": not given
	Recipe  string // name
	Scheme  packer.Scheme
	Group   int    // weights that share a scale; 0: a scale for each output channel
	Grid    string // "": FP8
	Bytes   Change // of all tensors
	SNR     float64
	Verify  *packer.Verification
	Gate    []eval.Verdict
	Results []eval.Report // the first is the one of the summary

	Sizes       []Size
	Layers      []Layer
	Channels    []Channels
	Scales      *Scales
	Activations *Activations
	Attention   Attention
	Rounding    *packer.Rounding // of activations and the cache
	Calibration Calibration
	Runtimes    []string
	Fallbacks   []Fallback
	Notes       []string // what the user was told, runtimes left out
	Provenance  []Fact
	RecipeText  string
}

// Change is a figure of the base and of the quantized checkpoint; the former is NaN
// where there is no base.
type Change struct{ Before, After float64 }

// Size is the tensor data of one part of the model, in bytes.
type Size struct {
	Part string
	Change
}

// Layer is one quantized linear and what rounding cost it.
type Layer struct {
	packer.Layer
	Block      int
	Projection string  // the last part of the name: q_proj
	SNRdB      float64 // +Inf: nothing was lost
	Relative   float64 // sqrt(sse/energy), the error as a share of the weight
}

// Channels says how far the input channels of a linear stand out.
type Channels struct {
	Linear        string
	Block         int
	Projection    string
	Before, After *Peak // Before is nil without a base
}

// Peak is the channel with the largest weight of a linear.
type Peak struct {
	Ratio   float64 // its largest weight over that of the median channel
	Channel int
	Over    int // channels above OutlierRatio times the median
}

// Fallback is something that the recipe asked for and that is otherwise.
type Fallback struct{ Name, Reason string }

// Fact is a line of the provenance.
type Fact struct{ Name, Value string }

// Calibration is what the statistics were taken from.
type Calibration struct {
	Wanted  bool // the recipe reads a text
	Windows int
	Tokens  int64
	SHA256  string // "": the manifest does not say
	Counted bool   // every linear says which of its inputs no token reached
	Dead    []Dead // those linears that have some
}

// Dead counts inputs of a linear that were zero for every token.
type Dead struct {
	Linear     string
	Columns, K int
}
