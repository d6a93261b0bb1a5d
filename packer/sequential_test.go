package packer

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// W* = W + (W C + R) H⁻¹ is the least-squares weight: checked against a direct
// solution in which W is held by the damping.
func TestDriftIsLeastSquares(t *testing.T) {
	for _, point := range []model.Point{model.AttnIn, model.OIn} {
		rng := rand.New(rand.NewPCG(3, 4))
		const tokens, k, n = 300, 32, 32 // n is the hidden size of linears that write the stream
		random := func(rows, cols int, scale float32) tensor.Matrix {
			m := tensor.NewMatrix(rows, cols)
			for i := range m.Data {
				m.Data[i] = scale * float32(rng.NormFloat64())
			}
			return m
		}
		w, in := random(n, k, 1), random(tokens, k, 1)
		shift := random(tokens, k, 0.2)
		exact := tensor.NewMatrix(tokens, k)
		for i, v := range in.Data {
			exact.Data[i] = v + shift.Data[i]
		}
		x, y := random(tokens, n, 1), random(tokens, n, 1)

		sums := calibrate.NewAccumulator(nil)
		h := &calibrate.Hessian{K: k, Data: make([]float64, k*k)}
		sums.Add(h, in)
		sums.Complete(h)
		gram := mat.NewDense(k, k, slices.Clone(h.Data))
		d := newDrift(k, n, point)
		d.add(sums, in, exact, x, y)
		f, err := FactorHessian(h, FactorOptions{ActOrder: true})
		if err != nil {
			t.Fatal(err)
		}
		d.prepare(f, calibrate.PlainMatMulT)
		got := d.target(w)

		// minimise Σ ‖W x' + (r'-r) - W* x‖² + λ‖W* - W‖²
		rhs := mat.NewDense(n, k, nil)
		for m := range tokens {
			for i := range n {
				want := 0.0
				for j := range k {
					want += float64(w.Row(i)[j]) * float64(exact.Row(m)[j])
				}
				if point == model.OIn {
					want += float64(y.Row(m)[i]) - float64(x.Row(m)[i])
				}
				for j := range k {
					rhs.Set(i, j, rhs.At(i, j)+want*float64(in.Row(m)[j]))
				}
			}
		}
		for i := range n {
			for j := range k {
				rhs.Set(i, j, rhs.At(i, j)+f.ridge*float64(w.Row(i)[j]))
			}
		}
		for i := range k {
			gram.Set(i, i, gram.At(i, i)+f.ridge)
		}
		var solved mat.Dense
		if err := solved.Solve(gram, rhs.T()); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			for j := range k {
				// FP32 sums of 300 products and one FP32 product of 32.
				if diff := math.Abs(float64(got.Row(i)[j]) - solved.At(j, i)); diff > 2e-5 {
					t.Fatalf("%s: W*[%d,%d] is %g off", point, i, j, diff)
				}
			}
		}
	}
}

// Rounding in the order of computation leaves less error in the hidden states
// than rounding each weight alone, and fitting to the full-precision model less
// again; the runs are deterministic.
func TestSequentialLowersTheError(t *testing.T) {
	dir := tiny(t, 128, 256, false).write(t)
	r := open(t, dir)
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	compute := modeltest.Compute()
	windows := [][]int32{modeltest.Tokens(1, 96, cfg.Vocab), modeltest.Tokens(2, 96, cfg.Vocab), modeltest.Tokens(3, 96, cfg.Vocab)}
	fold := func() *model.Folded {
		f, err := model.Fold(cfg, model.FromCheckpoint(r, compute), compute)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	run := func(src model.Source) []tensor.Matrix {
		m, err := model.New(cfg, src, compute)
		if err != nil {
			t.Fatal(err)
		}
		out, err := m.Stream(t.Context(), windows, model.StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := run(fold())
	o := Int4Options{GroupSize: 128, Grid: GridExact, Search: true}
	rounded := func(quantize func(context.Context, string, tensor.Matrix, Int4Options) (Weight, Layer, error)) (map[string]*Int4Weight, float64) {
		source := fold()
		weights := map[string]*Int4Weight{}
		for _, e := range model.Tensors(cfg) {
			if e.Kind != model.KindLinear {
				continue
			}
			w, err := source.Matrix(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			q, layer, err := quantize(t.Context(), e.Module, w, o)
			if err != nil {
				t.Fatal(err)
			}
			if layer.Energy == 0 {
				t.Errorf("%s: no figures", e.Module)
			}
			weights[e.Module] = q.(*Int4Weight)
		}
		got := run(&replaced{fold(), weights, compute})
		sum := 0.0
		for i := range want {
			for j, v := range want[i].Data {
				d := float64(v) - float64(got[i].Data[j])
				sum += d * d
			}
		}
		return weights, sum
	}
	sequential := func(full bool) (map[string]*Int4Weight, float64) {
		s, err := NewSequential(SequentialOptions{
			Weights: fold(), Compute: compute, Windows: windows, ActOrder: true, Importance: true, FullPrecision: full,
			Linear: func(w Weight, bias []float32) (model.Linear, error) { return decoded(w, bias, compute), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		return rounded(s.Quantize)
	}
	_, nearest := rounded(func(_ context.Context, _ string, w tensor.Matrix, o Int4Options) (Weight, Layer, error) {
		q, report, err := QuantizeInt4(w, o)
		return q, report.Layer(), err
	})
	first, own := sequential(false)
	_, full := sequential(true)
	if !(full < own && own < nearest) {
		t.Errorf("squared errors: nearest %g, own output %g, full precision %g; wanted each below the one before", nearest, own, full)
	}
	again, _ := sequential(false)
	for name, w := range first {
		if !slices.Equal(w.Codes, again[name].Codes) || !slices.Equal(w.Scales, again[name].Scales) {
			t.Errorf("%s differs between two runs", name)
		}
	}
	if _, err := NewSequential(SequentialOptions{Weights: fold(), Compute: compute}); err == nil {
		t.Error("no windows: accepted")
	}
}

// replaced serves rounded weights in the place of some linears.
type replaced struct {
	*model.Folded
	weights map[string]*Int4Weight
	compute model.Compute
}

func (s *replaced) Linear(name string) (model.Linear, error) {
	if w := s.weights[name]; w != nil {
		return decoded(w, nil, s.compute), nil
	}
	return s.Folded.Linear(name)
}

func decoded(w Weight, bias []float32, c model.Compute) model.Linear {
	n, k := w.Shape()
	m := tensor.NewMatrix(n, k)
	w.Decode(m, Exact)
	return c.Linear(m, bias)
}
