// Package smoothing changes the basis or the scale of activations inside a model
// without changing its function, so that its weights and activations round well.
//
// There are two kinds of transform, and each is a [model.Transform] that folds
// into the weights, in float64, before they are rounded. Rotations mix channels:
// of the residual stream, of the values of each head, of the input of down.
// Scales, described here, move range from one side of a channel to the other.
//
// # Scales of channels
//
// A [model.Feed] is a producer, a norm or a linear, whose output channels are
// the input channels of its consumers, with nothing between that a factor of a
// channel does not pass through:
//
//	             Site
//	From ─ / s ───┬──── * s ─ To[0]     row j of From (its bias too)    / s_j
//	              ├──── * s ─ To[1]     column j of every To            * s_j
//	              └──── * s ─ router
//
//	input norm  ─> q, k, v              post-attention norm ─> gate, up
//	v ─(heads)─> o                      up ─(times silu(gate))─> down
//
// The activation between them becomes x/s. Under grouped queries a channel of v
// is read once by each query head of its group, and all columns that read it
// share its factor. A [Plan] holds one vector for each layer and feed and does
// the folding; these functions make the vectors of a block:
//
//	[FireQ]        from |W| alone: columns of one mean magnitude
//	[SmoothQuant]  from max |x| and max |W|: outliers half here, half there
//	[AWQ]          from mean |x|, searched: accurate weights where activations are large
//	[VMul]         one constant for all values
//
// [AWQ], and the others where they search an exponent, judge candidates by an
// [Objective]: what rounding with the target's own quantiser ([Fake]) does to
// the output of the consumers on the calibration text.
//
// [Clip] bounds weights and [PerTensorScale] lifts them; both come right before
// rounding and do not preserve the function by themselves.
//
// # Order
//
//	rotations -> rope scales and [VMul] -> scales of channels -> ([Clip]) -> rounding
//
// (docs/methods.md, section 10.1). A norm's weight is 1 after a rotation and can
// take 1/s again, so scales come after; they are made from weights and statistics
// of the rotated model. Transforms on the diagonal commute as functions and not
// as statistics: those of a block are read after rope scales and VMul changed its
// rows, and inside a block o/v and down/up come before the feeds of the norms.
//
//	f, err := model.Fold(cfg, src, compute, rotation, ropeScales)
//	plan := smoothing.NewPlan(cfg)
//	for layer := range cfg.Layers {
//		p, err := f.Block(layer)
//		scales, err := smoothing.FireQ(cfg, layer, p, options)
//		err = plan.Set(layer, scales)
//	}
//	g, err := model.Fold(cfg, src, compute, rotation, ropeScales, plan)
//
// # Sources
//
// FireQ: arXiv 2505.20839 and its code. SmoothQuant: Xiao et al. 2022, arXiv
// 2211.10438. AWQ: Lin et al. 2023, arXiv 2306.00978, and llm-awq; duo scaling as
// in AutoAWQ and llm-compressor. docs/methods.md, sections 1.4, 1.6, 4.1, 4.2, 4.5.
package smoothing
