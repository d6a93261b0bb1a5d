package smoothing

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// groupErrors is the meaning of the search: for each row and group the squared
// output error, over the tokens, of the group's columns alone.
func groupErrors(w *model.Param, x [][]float64, group int, fake Fake, clamp func(row, g int, v float64) float64) ([]float64, error) {
	clamped := tensor.NewMatrix(w.Rows, w.Cols)
	for i := range w.Rows {
		for j, v := range w.Row(i) {
			clamped.Row(i)[j] = float32(clamp(i, j/group, v))
		}
	}
	rounded := tensor.NewMatrix(w.Rows, w.Cols)
	if err := fake(rounded, clamped); err != nil {
		return nil, err
	}
	var errs []float64
	for i := range w.Rows {
		for g := 0; g < w.Cols; g += group {
			total := 0.0
			for _, row := range x {
				e := 0.0
				for j := g; j < min(g+group, w.Cols); j++ {
					e += row[j] * (float64(rounded.Row(i)[j]) - w.Row(i)[j])
				}
				total += e * e
			}
			errs = append(errs, total)
		}
	}
	return errs, nil
}

// The errors are those over the tokens, of no clipping and of the limits that
// were found; no ratio of the list beats them in any group.
func TestClipFindsTheLeastOutputError(t *testing.T) {
	t.Parallel()
	s := observed(t, 61, modeltest.Shapes()[6])
	p, fake := s.block(t, 1), int4(8)
	clippings, err := Clip(s.cfg, 1, p, s.hessians(1), fake, ClipOptions{GroupSize: 8})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range clippings {
		names = append(names, c.Module)
		w := p.Weight(c.Module)
		var point model.Point
		for _, f := range s.cfg.Feeds(1) {
			if slices.Contains(f.To, c.Module) {
				point = f.Site
			}
		}
		x := s.activations(t, model.Site{Layer: 1, Point: point})
		at := func(clamp func(row, g int, v float64) float64) []float64 {
			e, err := groupErrors(w, x, 8, fake, clamp)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		sum := func(errs []float64) (total float64) {
			for _, e := range errs {
				total += e
			}
			return total
		}
		bounded := c.Clamp(w)
		groups := c.Limit.Cols
		found := at(func(i, g int, v float64) float64 {
			limit := float64(c.Limit.Row(i)[g])
			return max(-limit, min(limit, v))
		})
		for i := range w.Rows {
			for j, v := range w.Row(i) {
				limit := float64(c.Limit.Row(i)[j/8])
				if want := max(-limit, min(limit, v)); bounded.Row(i)[j] != want {
					t.Fatalf("%s[%d, %d]: %v, wanted %v", c.Module, i, j, bounded.Row(i)[j], want)
				}
			}
		}
		if got, want := c.Error, sum(found); math.Abs(got-want) > 1e-4*want { // FP32 sums of the Hessian
			t.Errorf("%s: error %v, over the tokens %v", c.Module, got, want)
		}
		whole := sum(at(func(_, _ int, v float64) float64 { return v }))
		if math.Abs(c.Unclipped-whole) > 1e-4*whole || !(c.Error < c.Unclipped) {
			t.Errorf("%s: unclipped %v, over the tokens %v, clipped %v", c.Module, c.Unclipped, whole, c.Error)
		}
		for i := range 10 {
			ratio := 1 - float64(i)/20
			tried := at(func(row, g int, v float64) float64 {
				limit := ratio * largest(w.Row(row)[8*g:8*g+8])
				return max(-limit, min(limit, v))
			})
			for at, e := range tried {
				if e < found[at]*(1-1e-3)-1e-6*whole {
					t.Errorf("%s, row %d, group %d: ratio %v has %v, the chosen %v", c.Module, at/groups, at%groups, ratio, e, found[at])
				}
			}
		}
	}
	if want := []string{"self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}; !slices.Equal(names, want) {
		t.Errorf("clipped %v, wanted %v", names, want)
	}
}

// One weight of a group is large and its activation small: it is clipped, and the
// group without such a weight, in a row of its own, is not.
func TestClipGivesUpADeadOutlier(t *testing.T) {
	t.Parallel()
	cfg, p, _, h := problem(4, 3, 32)
	w := p.Weight("mlp.down_proj")
	for i := range w.Rows {
		for j := range w.Cols {
			w.Row(i)[j] = float64((i*7+j*5)%15-7) / 7 // on the grid of amax = 1
		}
		w.Row(i)[0], w.Row(i)[16] = 1, -1
	}
	w.Row(1)[5] = 1.8
	clear(w.Row(2)[16:]) // all ratios are alike
	for j := range h.K {
		h.Data[5*h.K+j], h.Data[j*h.K+5] = 0, 0
	}
	c := clipDown(t, cfg, p, h, ClipOptions{GroupSize: 16})
	for i := range w.Rows {
		for g := range 2 {
			limit := float64(c.Limit.Row(i)[g])
			if outlier := i == 1 && g == 0; outlier != !math.IsInf(limit, 1) {
				t.Errorf("row %d, group %d: limit %v", i, g, limit)
			}
		}
	}
	if limit := float64(c.Limit.Row(1)[0]); math.Abs(limit-0.55*1.8) > 1e-6 {
		t.Errorf("the outlier is clipped to %v", limit)
	}
}

// clipDown clips down alone: the other linears of the table are gone.
func clipDown(t *testing.T, cfg *model.Config, p model.Params, h *calibrate.Hessian, o ClipOptions) Clipping {
	t.Helper()
	only, arch := *cfg, *cfg.Arch
	arch.Linears = arch.Linears[len(arch.Linears)-1:]
	only.Arch = &arch
	c, err := Clip(&only, 0, p, map[model.Point]*calibrate.Hessian{model.DownIn: h}, int4(o.GroupSize), o)
	if err != nil || len(c) != 1 {
		t.Fatal(c, err)
	}
	return c[0]
}

// More rows than are worked on at a time, a short last group, any workers.
func TestClipIsDeterministic(t *testing.T) {
	cfg, p, _, h := problem(5, clipRows+40, 100)
	run := func(workers int) Clipping {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
		return clipDown(t, cfg, p, h, ClipOptions{GroupSize: 64})
	}
	alone := run(1)
	if alone.Limit.Cols != 2 || !(alone.Error < alone.Unclipped) {
		t.Errorf("%d groups, %v of %v", alone.Limit.Cols, alone.Error, alone.Unclipped)
	}
	for _, workers := range []int{2, 5} {
		c := run(workers)
		if c.Error != alone.Error || c.Unclipped != alone.Unclipped || !slices.Equal(c.Limit.Data, alone.Limit.Data) {
			t.Errorf("%d workers: another result", workers)
		}
	}
	// A row alone gives what it gives among others.
	last := p.Weight("mlp.down_proj").Rows - 1
	row := model.Params{"mlp.down_proj.weight": {Rows: 1, Cols: 100, Data: p.Weight("mlp.down_proj").Row(last)}}
	if c := clipDown(t, cfg, row, h, ClipOptions{GroupSize: 64}); !slices.Equal(c.Limit.Data, alone.Limit.Row(last)) {
		t.Errorf("the last row alone: %v, among others %v", c.Limit.Data, alone.Limit.Row(last))
	}
}

func TestClipRefuses(t *testing.T) {
	t.Parallel()
	s := observed(t, 62, modeltest.Shapes()[0])
	p, h := s.block(t, 0), s.hessians(0)
	broken := errors.New("broken")
	fails := func(_, _ tensor.Matrix) error { return broken }
	for name, c := range map[string]struct {
		hessians map[model.Point]*calibrate.Hessian
		fake     Fake
		o        ClipOptions
		want     error
	}{
		"no Hessian":          {nil, int4(8), ClipOptions{}, ErrScale},
		"negative group":      {h, int4(8), ClipOptions{GroupSize: -1}, ErrScale},
		"negative ratios":     {h, int4(8), ClipOptions{Ratios: -1}, ErrScale},
		"ratio 0":             {h, int4(8), ClipOptions{Ratios: 21}, ErrScale},
		"quantiser that errs": {h, fails, ClipOptions{}, broken},
	} {
		if _, err := Clip(s.cfg, 0, p, c.hessians, c.fake, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Weight("mlp.down_proj").Data[0] = math.NaN()
	if _, err := Clip(s.cfg, 0, p, h, int4(8), ClipOptions{}); !errors.Is(err, ErrScale) {
		t.Errorf("a weight that is not a number: %v", err)
	}
}
