package packer

import (
	"context"
	"errors"

	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

// SequentialOptions are the options of [NewSequential].
type SequentialOptions struct {
	// Weights are the full-precision weights, transformed, and Compute the
	// arithmetic of the forward passes over them. Weights must not be used by
	// anyone else meanwhile.
	Weights *model.Folded
	Compute model.Compute
	// Runtime is what the target does between the linears.
	Runtime model.Runtime
	// Linear makes the linear that the target will run from a rounded weight.
	Linear func(w Weight, bias []float32) (model.Linear, error)
	// MatMulT forms the products of the sums; nil: plain Go, slow.
	MatMulT calibrate.MatMulT

	// Buffer bounds the residual streams, half of it each where there are two.
	Buffer model.Buffer
	// Journal keeps the residual streams between two blocks; nil: restored blocks
	// are run again, without being rounded.
	Journal *checkpoint.Journal

	Scheme     Scheme    // FP8: to E4M3; else to INT4 as Quantize is told
	Windows    [][]int32 // calibration tokens
	Damp       float64   // as of FactorOptions
	ActOrder   bool      // as of FactorOptions
	Importance bool      // the scale search weighs input channels by their energy
	// FullPrecision fits each layer's output to that of the unrounded model, so
	// that it also makes good what the layers before it lost; false: to that of
	// its own unrounded weight on the same inputs, GPTQ as published.
	FullPrecision bool
}

// Sequential rounds the linears of a model by GPTQ in the order of computation.
// A layer is fitted on the inputs it will have: those that the rounded layers
// before it produce (arXiv 2210.17323, section 4; methods.md 4.3).
//
//	for each block:
//	    attn_in of all windows -> H -> round q, k, v
//	    o_in    of all windows -> H -> round o         residual += attention
//	    mlp_in  of all windows -> H -> round gate, up
//	    down_in of all windows -> H -> round down      residual += MLP
//
// and in a block with experts, one expert after the other,
//
//	expert_in of the tokens that reach it -> H -> round its gate, up
//	down_in of those tokens               -> H -> round its down
//
// An expert that no token reaches is rounded to nearest, which its Layer says. With
// FullPrecision an expert is fitted to the unrounded one on the tokens that the
// rounded model sends it; what earlier blocks lost is made good by dense layers
// alone, since an expert's output joins the stream in part.
//
// Its memory is the residual stream of all windows, tokens·Hidden·4 bytes (twice
// with FullPrecision) as far as Buffer lets them, one block, and the Hessian of
// one site, 8·K².
type Sequential struct {
	o       SequentialOptions
	rounded *model.Model // on the target's runtime
	full    *model.Model
	sums    *calibrate.Accumulator

	layer        int
	rules        map[string]model.LinearRule // of the current block, by module
	routes       []model.Routing             // of the current block, by window; nil: not asked yet
	block, exact *model.Block                // exact is nil without FullPrecision
	x, y         *model.Hidden               // residual stream of block, and of exact
	restored     map[int]func() (map[string]Weight, error)

	point  model.Point // of factor
	factor *Factor     // nil: no token was seen
	tokens int64       // of factor
	energy []float32
	drift  *drift // nil without FullPrecision
}

// NewSequential embeds the windows. Its methods Quantize and Restored are for
// [ExportOptions]; the caller calls Close in the end.
func NewSequential(o SequentialOptions) (*Sequential, error) {
	if len(o.Windows) == 0 {
		return nil, &fault.Error{Err: ErrOption, Where: "calibration", Found: "no windows", Wanted: "text of at least one window"}
	}
	if o.MatMulT == nil {
		o.MatMulT = calibrate.PlainMatMulT
	}
	full, err := model.New(o.Weights.Config(), o.Weights, o.Compute)
	if err != nil {
		return nil, err
	}
	s := &Sequential{o: o, full: full, rounded: full.WithRuntime(o.Runtime), sums: calibrate.NewAccumulator(o.MatMulT), layer: -1, restored: map[int]func() (map[string]Weight, error){}}
	buffer := o.Buffer
	if o.FullPrecision && buffer.Bytes > 0 {
		buffer.Bytes = max(1, buffer.Bytes/2)
	}
	if s.x, err = full.EmbedIn(o.Windows, buffer); err != nil {
		return nil, err
	}
	if o.FullPrecision {
		if s.y, err = full.EmbedIn(o.Windows, buffer); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close frees the residual streams.
func (s *Sequential) Close() error { return errors.Join(s.x.Close(), s.y.Close()) }

// Quantize rounds w, the next linear in the order of computation. Linears that
// are left out stay as they are in the forward passes. It is the function of
// [ExportOptions].
func (s *Sequential) Quantize(ctx context.Context, module string, w tensor.Matrix, o Int4Options) (Weight, Layer, error) {
	if err := s.enter(ctx, module); err != nil {
		return nil, Layer{}, err
	}
	rule, ok := s.rules[module]
	if !ok {
		panic("packer: no linear of the model is called " + module)
	}
	point := rule.Input()
	if point != s.point {
		if err := s.observe(ctx, point); err != nil {
			return nil, Layer{}, err
		}
	}
	q, layer, err := s.round(w, o)
	if err != nil {
		return nil, Layer{}, err
	}
	if _, expert := point.Expert(); expert >= 0 {
		layer.reached(s.tokens)
	}
	return q, layer, s.install(module, q)
}

// round fits w to what the point was seen to be fed, or rounds it to nearest.
func (s *Sequential) round(w tensor.Matrix, o Int4Options) (Weight, Layer, error) {
	if s.factor == nil {
		return s.nearest(w, o)
	}
	target := w
	if s.drift != nil {
		target = s.drift.target(w)
	}
	if s.o.Importance {
		o.Importance = s.energy
	}
	p := Propagation{MatMulT: s.o.MatMulT}
	var q Weight
	var report *GPTQReport
	var err error
	if s.o.Scheme == FP8 {
		q, report, err = QuantizeGPTQFP8(target, s.factor, p)
	} else {
		q, report, err = QuantizeGPTQ(target, s.factor, GPTQOptions{Int4Options: o, Propagation: p})
	}
	if err != nil {
		return nil, Layer{}, err
	}
	return q, report.Layer(), nil
}

func (s *Sequential) nearest(w tensor.Matrix, o Int4Options) (Weight, Layer, error) {
	if s.o.Scheme == FP8 {
		q, report, err := QuantizeFP8(w)
		if err != nil {
			return nil, Layer{}, err
		}
		return q, report.Layer(), nil
	}
	q, report, err := QuantizeInt4(w, o)
	if err != nil {
		return nil, Layer{}, err
	}
	return q, report.Layer(), nil
}

func (s *Sequential) bias(module string) ([]float32, error) {
	p, err := s.o.Weights.Block(s.layer)
	if err != nil {
		return nil, err
	}
	b := p[s.rules[module].Name+".bias"]
	if b == nil {
		return nil, nil
	}
	return b.Narrow().Data, nil
}

func (s *Sequential) load() error {
	b, err := s.full.Block(s.layer)
	if err != nil {
		return err
	}
	s.block = s.rounded.Share(b)
	if s.o.FullPrecision {
		s.exact = b
	}
	s.point, s.factor, s.drift, s.routes = "", nil, nil, nil
	s.rules = map[string]model.LinearRule{}
	names := s.full.LinearsOf(s.layer)
	for i, rule := range s.o.Weights.Config().Linears(s.layer) {
		s.rules[names[i]] = rule
	}
	return nil
}

// route asks the router of the block once, and not for every expert again: the stream
// stays as it is until the last one is rounded.
func (s *Sequential) route(ctx context.Context) error {
	if s.routes != nil {
		return nil
	}
	routes := make([]model.Routing, s.x.Len())
	for i := range routes {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := s.x.Get(i)
		if err != nil {
			return err
		}
		routes[i] = s.block.Route(x)
	}
	s.routes = routes
	return nil
}

// observe sums what the linears at a point are fed.
func (s *Sequential) observe(ctx context.Context, p model.Point) error {
	if err := s.advance(ctx, p, false); err != nil {
		return err
	}
	k := 0
	for _, rule := range s.rules {
		if rule.Input() == p {
			_, k = s.o.Weights.Config().Shape(rule.Role)
		}
	}
	h := &calibrate.Hessian{K: k, Data: make([]float64, k*k)}
	s.point, s.factor, s.drift, s.tokens = p, nil, nil, 0
	if s.o.FullPrecision {
		s.drift = newDrift(k, s.o.Weights.Config().Hidden, p)
	}
	_, expert := p.Expert()
	if expert >= 0 {
		if err := s.route(ctx); err != nil {
			return err
		}
	}
	until := func(b *model.Block, i int, x tensor.Matrix) tensor.Matrix {
		if expert >= 0 {
			return b.UntilExpert(p, x, s.routes[i]) // both versions on the tokens of the rounded one's router
		}
		return b.Until(p, x)
	}
	for i := range s.x.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if expert >= 0 && s.routes[i].Rows(expert) == 0 {
			continue
		}
		x, err := s.x.Get(i)
		if err != nil {
			return err
		}
		in := until(s.block, i, x)
		s.tokens += int64(in.Rows)
		s.sums.Add(h, in)
		if s.drift != nil {
			y, err := s.y.Get(i)
			if err != nil {
				return err
			}
			s.drift.add(s.sums, in, until(s.exact, i, y), x, y)
		}
	}
	if s.tokens == 0 {
		return nil
	}
	s.sums.Complete(h)
	s.energy = make([]float32, k)
	for j := range s.energy {
		s.energy[j] = float32(h.Data[j*k+j])
	}
	var err error
	if s.factor, err = FactorHessian(h, FactorOptions{Damp: s.o.Damp, ActOrder: s.o.ActOrder}); err != nil {
		return err
	}
	if s.drift != nil {
		s.drift.prepare(s.factor, s.o.MatMulT)
	}
	return nil
}
