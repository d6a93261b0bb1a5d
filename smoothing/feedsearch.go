package smoothing

import (
	"quantize/calibrate"
	"quantize/model"
	"quantize/tensor"
)

// Fake writes into dst what the target multiplies in the place of each weight of
// w (N, K). dst and w do not overlap. It is called with some of the rows of a
// linear, or all, and by one goroutine at a time.
type Fake func(dst, w tensor.Matrix) error

// Objective judges scales of a feed by the output error of its consumers after
// rounding, over the calibration tokens X:
//
//	Σ_linears ‖X (W' - W)ᵀ‖² = Σ_linears tr((W' - W) H (W' - W)ᵀ)     H = XᵀX
//	W' = Fake(W·diag(s))·diag(s)⁻¹
//
// This is the output of the linears themselves; llm-awq looks at the output of
// the attention or MLP round them. It needs no second forward pass, and K² sums
// in the place of all activations. Activations are X as it was calibrated; what
// the target rounds of them is not seen. Rows that an earlier feed divided are
// judged in the units they had before, so that it does not matter to the result
// how the channels behind them are scaled.
type Objective struct {
	Hessians map[model.Point]*calibrate.Hessian // of this layer: the sites of the feeds that are searched
	Fake     Fake
	MatMulT  calibrate.MatMulT // FP32 products; nil: plain Go, slow
	// Rows of each linear that are looked at, spread evenly over it; 0: 512. The
	// best scales of a sample are those of all rows but for near ties, and a
	// search over 14336 columns takes seconds for each candidate as it is.
	Rows     int
	OnChoice func(Choice) // is told of each search; nil: nobody
}

// Choice is the result of one search.
type Choice struct {
	Site      model.Site
	From      string  // producer of the feed
	Parameter float64 // ratio, exponent or alpha of the best scales; 0 with those of s = 1
	// Error is the objective of the best scales, Unscaled that of s = 1, which is
	// always among the candidates. Rows that were left out are made up for.
	Error, Unscaled float64
}

// best returns the scales of the parameter with the smallest error, nil when
// none is better than s = 1. Of equal ones the first wins.
func (o *Objective) best(b *smoothed, site model.Site, f model.Feed, w wires, parameters []float64, scales func(parameter float64) []float64) ([]float64, error) {
	j, err := o.judge(b, site, f, w)
	if err != nil {
		return nil, err
	}
	ones := make([]float64, w.channels())
	for i := range ones {
		ones[i] = 1
	}
	unscaled, err := j.error(ones)
	if err != nil {
		return nil, err
	}
	choice := Choice{Site: site, From: f.From, Error: unscaled, Unscaled: unscaled}
	var winner []float64
	for _, p := range parameters {
		s := scales(p)
		if err := checkScale(site.Layer, FeedScale{From: f.From, S: s}, w); err != nil {
			return nil, err
		}
		e, err := j.error(s)
		if err != nil {
			return nil, err
		}
		if e < choice.Error {
			choice.Error, choice.Parameter, winner = e, p, s
		}
	}
	if o.OnChoice != nil {
		o.OnChoice(choice)
	}
	return winner, nil
}
