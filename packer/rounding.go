package packer

import (
	"fmt"
	"math"
)

// Rounding tells what the number formats of run time cost, before any weight is
// rounded: of a recipe's transforms on calibration tokens. nil lists: nothing is rounded.
type Rounding struct {
	Tokens int64           `json:"tokens"`
	Inputs []InputRounding `json:"inputs,omitempty"` // of linears, to FP8 by token
	Cache  []CacheRounding `json:"cache,omitempty"`  // by layer
}

// InputRounding is what the inputs of the linears at a point of a block keep.
type InputRounding struct {
	Layer int    `json:"layer"`
	Point string `json:"point"` // attn_in, o_in, mlp_in, expert_in, down_in; experts together
	Fidelity
}

// CacheRounding is what the cache keeps of a layer. Keys are seen through queries:
// Scores are q·k of a query and all keys that it sees, less their mean, which softmax
// drops; so scales that move between q and k count for nothing by themselves.
type CacheRounding struct {
	Layer  int      `json:"layer"`
	Scores Fidelity `json:"scores"`
	// UnscaledScores are those of a cache of the same format without the recipe's
	// scales before and after rotary embedding; nil: it has none.
	UnscaledScores *Fidelity `json:"unscaled_scores,omitempty"`
	Values         Fidelity  `json:"values"`
}

// Fidelity is how near numbers y' came to y (methods.md 0.3), to four significant
// digits: 10 log10(Σy²/Σ(y-y')²) and Σyy'/√(Σy²Σy'²). nil: there is no such number,
// as of the SNR where nothing was lost.
type Fidelity struct {
	SNR    *float64 `json:"snr_db"`
	Cosine *float64 `json:"cosine"`
}

// NewFidelity takes the sums of y², y'², (y-y')² and yy'.
func NewFidelity(signal, rounded, noise, both float64) Fidelity {
	return Fidelity{digits4(10 * math.Log10(signal/noise)), digits4(max(-1, min(1, both/math.Sqrt(signal*rounded))))}
}

// String is the SNR in dB.
func (f Fidelity) String() string {
	if f.SNR == nil {
		return "none"
	}
	return fmt.Sprintf("%.4g dB", *f.SNR)
}
