package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"quantize/calibrate"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
	"quantize/rope"
	"quantize/smoothing"
)

// transforms is what a recipe does to the weights before they are rounded, and
// what is left to do at run time.
type transforms struct {
	list    []model.Transform              // in the order of methods.md 10.1
	pre     *rope.Pre                      // of list; nil: none
	sidecar *packer.Sidecar                // nil: the runtime's own attention
	clips   map[string]*smoothing.Clipping // by linear; nil: none
	tokens  map[string]int64               // calibration tokens of the linears of experts; nil: not counted
	private string                         // why other runtimes must not run the result
	notes   []string
}

// transform makes the transforms of a recipe: rotations first, then what is
// measured on the rotated model.
func (e *env) transform(ctx context.Context, l *loaded, r *recipe.Recipe, windows [][]int32) (*transforms, error) {
	t := &transforms{}
	if err := e.rotations(ctx, l, r, windows, t); err != nil {
		return nil, err
	}
	if err := e.scales(ctx, l, r, windows, t); err != nil {
		return nil, err
	}
	if r.Rotation.Down == recipe.Hadamard {
		if err := t.rotateDown(l.config); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// scales measures the rotated model, block by block, and makes rope scales and
// the smoothing of channels from it.
func (e *env) scales(ctx context.Context, l *loaded, r *recipe.Recipe, windows [][]int32, t *transforms) error {
	decision, err := decide(l.config, r)
	if err != nil {
		return err
	}
	s := &scaler{loaded: l, recipe: r, layout: rope.LayoutOf(l.config), decision: decision}
	if r.KV.Format != recipe.KVNone {
		t.sidecar = &packer.Sidecar{KV: kvScheme(r.KV)}
		if err := t.sidecar.KV.Validate(l.config.HeadDim); err != nil {
			return err
		}
	}
	measured := s.sites()
	if len(measured.Points) == 0 && r.Smoothing.Method == recipe.NoSmoothing {
		return nil
	}
	rotated := t.list
	if r.Rope.Method != recipe.NoRope {
		s.pre = rope.NewPre(l.config)
		t.pre, t.list = s.pre, append(t.list, s.pre)
	}
	if r.Smoothing.VMul != 0 {
		vmul, err := smoothing.VMul(l.config, r.Smoothing.VMul)
		if err != nil {
			return err
		}
		t.list = append(t.list, vmul)
	}
	if r.Smoothing.Method != recipe.NoSmoothing {
		s.plan = smoothing.NewPlan(l.config)
		if s.weights, err = l.fold(t.list); err != nil {
			return err
		}
		t.list = append(t.list, s.plan)
		s.all = t.list
	}
	s.sidecar = t.sidecar
	if len(measured.Points) == 0 {
		return s.unmeasured()
	}
	measured.Phase = s.phase()
	measured.OnSites = func(sites []*calibrate.SiteStats) error {
		stats := &calibrate.Stats{}
		for _, site := range sites {
			stats.Sites = append(stats.Sites, *site)
		}
		return s.layer(sites[0].Site.Layer, stats)
	}
	stats, err := e.collect(ctx, l, windows, rotated, measured)
	if err != nil {
		return err
	}
	t.clips = s.clips
	if slices.Contains(measured.Points, model.DownIn) {
		// Of all layers: those that an earlier run has measured do not reach OnSites.
		t.tokens = expertTokens(l.config, stats)
	}
	return nil
}

// rotations makes R1 and R2.
func (e *env) rotations(ctx context.Context, l *loaded, r *recipe.Recipe, windows [][]int32, t *transforms) error {
	o := r.Rotation
	var m *moments
	if o.Residual.Calibrated() || o.Values.Calibrated() {
		var err error
		if m, err = e.moments(ctx, l, windows); err != nil {
			return err
		}
	}
	if o.Residual != recipe.NoTurn {
		q, err := residualMatrix(l.config.Hidden, o, m, t)
		if err != nil {
			return err
		}
		r1, err := smoothing.NewResidual(l.config, q)
		if err != nil {
			return err
		}
		t.list = append(t.list, r1)
		t.note("residual stream: %s", q)
	}
	var r2 *smoothing.Values
	var err error
	switch o.Values {
	case recipe.NoTurn:
		return nil
	case recipe.Hadamard:
		r2, err = smoothing.HadamardValues(l.config)
	case recipe.RandomHadamard:
		r2, err = smoothing.RandomHadamardValues(l.config, o.Seed)
	case recipe.PCA:
		r2, err = smoothing.PCAValues(l.config, m.values)
	case recipe.PCAHadamard:
		r2, err = smoothing.PCAHadamardValues(l.config, m.values, o.Seed)
	}
	if err != nil {
		return err
	}
	t.list = append(t.list, r2)
	return nil
}

// residualStream keeps the random signs of R1 apart from those of R2, which are
// numbered by layer.
const residualStream = 1 << 32

func residualMatrix(n int, o recipe.Rotation, m *moments, t *transforms) (smoothing.Orthogonal, error) {
	switch o.Residual {
	case recipe.PCA:
		return smoothing.NewPCA(m.residual)
	case recipe.PCAHadamard:
		return smoothing.NewPCAHadamard(m.residual, o.Seed, residualStream)
	default: // a Hadamard matrix, with random signs or without
	}
	h, err := t.hadamard(n, "residual stream")
	if err != nil || o.Residual == recipe.Hadamard {
		return h, err
	}
	return smoothing.NewRandomHadamard(h, o.Seed, residualStream), nil
}

// hadamard is the Hadamard matrix of order n, or blocks of one, which is told.
func (t *transforms) hadamard(n int, where string) (*smoothing.Hadamard, error) {
	h, err := hadamardOf(n)
	if err == nil && h.Blocks() > 1 {
		t.note("%s: no Hadamard matrix of order %d: %s", where, n, h)
	}
	return h, err
}

// hadamardOf is the Hadamard matrix of order n, or blocks of one where there is none.
func hadamardOf(n int) (*smoothing.Hadamard, error) {
	h, err := smoothing.NewHadamard(n)
	if errors.Is(err, smoothing.ErrNoHadamard) {
		return smoothing.BlockHadamard(n)
	}
	return h, err
}

func (t *transforms) rotateDown(cfg *model.Config) error {
	n, err := smoothing.DownOrder(cfg)
	if err != nil {
		return err
	}
	h, err := t.hadamard(n, "input of down")
	if err != nil {
		return err
	}
	down, err := smoothing.NewDown(cfg, h)
	if err != nil {
		return err
	}
	if t.sidecar == nil {
		t.sidecar = &packer.Sidecar{}
	}
	t.sidecar.Down = packer.DownHadamard
	t.list = append(t.list, down)
	t.private = fmt.Sprintf("the input of down is rotated at run time (%s); others refuse the configuration", h)
	return nil
}

func (t *transforms) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}
