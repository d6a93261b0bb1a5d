package smoothing

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
)

// identity rotates nothing: it leaves the fusing of norms alone.
type identity int

func (n identity) Order() int       { return int(n) }
func (identity) Rotate([]float64)   {}
func (identity) Unrotate([]float64) {}
func (identity) String() string     { return "identity" }

// rotated is a random model, and how far transforms move its logits.
type rotated struct {
	checkpoint *modeltest.Checkpoint
	cfg        *model.Config
	tokens     []int32
	want       [][]float64
}

func newRotated(seed uint64, shape modeltest.Shape) *rotated {
	c := modeltest.Random(seed, shape)
	cfg := c.Parsed()
	tokens := modeltest.Tokens(seed, 11, cfg.Vocab)
	return &rotated{c, cfg, tokens, modeltest.Logits(cfg, c.Widen(), tokens)}
}

// off is the largest difference of float64 logits relative to their range.
func (r *rotated) off(h *Hadamard, transforms ...model.Transform) float64 {
	weights, cfg := r.checkpoint.Widen().Apply(r.cfg, transforms...)
	online := modeltest.Online{}
	if h != nil {
		online.DownIn = func(x [][]float64) {
			for _, row := range x {
				h.Apply(row)
			}
		}
	}
	return spread(modeltest.LogitsOnline(cfg, weights, r.tokens, online), r.want)
}

func spread(got, want [][]float64) float64 {
	low, high, most := math.Inf(1), math.Inf(-1), 0.0
	for i, row := range want {
		for j, v := range row {
			low, high = min(low, v), max(high, v)
			if d := math.Abs(got[i][j] - v); !(d <= most) { // a NaN stays
				most = d
			}
		}
	}
	return most / (high - low)
}

func (r *rotated) residual(t testing.TB, q Orthogonal) *Residual {
	t.Helper()
	x, err := NewResidual(r.cfg, q)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// down is nil where layers differ in width: no matrix serves all.
func (r *rotated) down(t testing.TB) *Down {
	t.Helper()
	n, err := DownOrder(r.cfg)
	if len(r.cfg.DownWidths()) > 1 {
		if !errors.Is(err, ErrRotation) {
			t.Fatalf("widths %v: error %v", r.cfg.DownWidths(), err)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDown(r.cfg, hadamard(t, n))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// everyHead gives each layer and head a matrix of its own.
func (r *rotated) everyHead(t testing.TB) *Values {
	t.Helper()
	h := hadamard(t, r.cfg.HeadDim)
	v, err := NewValues(r.cfg, func(layer, head int) Orthogonal {
		return NewRandomHadamard(h, 11, uint64(layer*r.cfg.KVHeads+head))
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// preserved is how far float64 logits may move, relative to their range.
const preserved = 1e-9

func TestRotationsPreserveTheFunction(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		t.Run(shape.Name, func(t *testing.T) {
			t.Parallel()
			r := newRotated(21, shape)
			check := func(what string, h *Hadamard, transforms ...model.Transform) {
				t.Helper()
				if d := r.off(h, transforms...); !(d <= preserved) {
					t.Errorf("%s: logits move by %g of their range", what, d)
				}
			}
			for _, q := range rotations(t, r.cfg.Hidden) {
				check("residual, "+q.String(), nil, r.residual(t, q))
			}
			for what, v := range r.values(t) {
				check("values, "+what, nil, v)
			}
			q := NewRandomHadamard(hadamard(t, r.cfg.Hidden), 1, 0)
			check("twice", nil, r.residual(t, q), r.residual(t, hadamard(t, r.cfg.Hidden)))
			down := r.down(t)
			if down == nil {
				return
			}
			check("down", down.Hadamard(), down)
			block, err := BlockHadamard(r.cfg.Intermediate)
			if err != nil {
				t.Fatal(err)
			}
			blockDown, err := NewDown(r.cfg, block)
			if err != nil {
				t.Fatal(err)
			}
			check("down, "+block.String(), block, blockDown)
			check("all", down.Hadamard(), r.residual(t, q), r.everyHead(t), down)
			check("all, another order", down.Hadamard(), down, r.everyHead(t), r.residual(t, q))

			// Without its run-time side down is another function.
			if d := r.off(nil, down); d < 1e-3 {
				t.Errorf("down without its run time moves logits by %g only", d)
			}
		})
	}
}

// values are the rotations of v by every constructor.
func (r *rotated) values(t testing.TB) map[string]*Values {
	t.Helper()
	all := map[string]*Values{"each its own": r.everyHead(t)}
	put := func(what string) func(*Values, error) {
		return func(v *Values, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			all[what] = v
		}
	}
	k := r.cfg.KVHeads * r.cfg.HeadDim
	var moments []*calibrate.Hessian
	for layer := range r.cfg.Layers {
		moments = append(moments, momentOf(k, correlated(uint64(layer), 3*k, k)))
	}
	put("hadamard")(HadamardValues(r.cfg))
	put("random")(RandomHadamardValues(r.cfg, 4))
	put("pca")(PCAValues(r.cfg, moments))
	put("pca-hadamard")(PCAHadamardValues(r.cfg, moments, 4))
	return all
}

// The rotations change what they say they change, and nothing else.
func TestResidualLeavesUnitNorms(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		r := newRotated(3, shape)
		a := r.cfg.Arch
		before := r.checkpoint.Widen()
		after, cfg := before.Apply(r.cfg, r.residual(t, hadamard(t, r.cfg.Hidden)))
		if cfg.TieEmbeddings {
			t.Errorf("%s: still tied", shape.Name)
		}
		for _, e := range model.Tensors(cfg) {
			if e.Kind != model.KindNorm {
				continue
			}
			own := a.QNorm != "" && e.Shape[0] == cfg.HeadDim && e.Layer >= 0 // of queries or keys
			for i, v := range after[e.Name] {
				if own && v != before[e.Name][i] || !own && v != 1 {
					t.Fatalf("%s: %s[%d] is %v", shape.Name, e.Name, i, v)
				}
			}
		}
	}
}

func TestAddedParams(t *testing.T) {
	t.Parallel()
	for _, shape := range modeltest.Shapes() {
		r := newRotated(3, shape)
		q := r.residual(t, hadamard(t, r.cfg.Hidden))
		after, _ := r.checkpoint.Widen().Apply(r.cfg, q)
		count := int64(0)
		for _, w := range after {
			count += int64(len(w))
		}
		for _, w := range r.checkpoint.Tensors {
			count -= int64(len(w.Data))
		}
		if got := q.AddedParams(r.cfg); got != count {
			t.Errorf("%s: %d added, counted %d", shape.Name, got, count)
		}
	}
}

func TestOrdersMustFit(t *testing.T) {
	t.Parallel()
	r := newRotated(1, modeltest.Shapes()[0])
	h := hadamard(t, 20)
	if _, err := NewResidual(r.cfg, h); !errors.Is(err, ErrRotation) {
		t.Errorf("residual: error %v", err)
	}
	if _, err := NewDown(r.cfg, h); !errors.Is(err, ErrRotation) {
		t.Errorf("down: error %v", err)
	}
	if _, err := NewValues(r.cfg, func(int, int) Orthogonal { return h }); !errors.Is(err, ErrRotation) {
		t.Errorf("values: error %v", err)
	}
	if _, err := PCAValues(r.cfg, nil); !errors.Is(err, ErrRotation) {
		t.Errorf("no moments: error %v", err)
	}
	wrong := []*calibrate.Hessian{momentOf(4, gaussian(1, 40)), nil}
	if _, err := PCAValues(r.cfg, wrong); !errors.Is(err, ErrRotation) {
		t.Errorf("moments of another width: error %v", err)
	}
	odd := *r.cfg
	odd.HeadDim = 14
	if _, err := HadamardValues(&odd); !errors.Is(err, ErrNoHadamard) {
		t.Errorf("heads of 14: error %v", err)
	}
	if _, err := RandomHadamardValues(&odd, 1); !errors.Is(err, ErrNoHadamard) {
		t.Errorf("heads of 14: error %v", err)
	}
}

// Random seeds, shapes and subsets of the three rotations, in any order.
func TestAnyCompositionPreservesTheFunction(t *testing.T) {
	t.Parallel()
	shapes := modeltest.Shapes()
	rapid.Check(t, func(t *rapid.T) {
		r := newRotated(rapid.Uint64().Draw(t, "seed"), shapes[rapid.IntRange(0, len(shapes)-1).Draw(t, "shape")])
		stream, err := NewResidual(r.cfg, NewRandomHadamard(hadamardOf(r.cfg.Hidden), rapid.Uint64().Draw(t, "signs"), 0))
		if err != nil {
			t.Fatal(err)
		}
		values, err := RandomHadamardValues(r.cfg, rapid.Uint64().Draw(t, "values"))
		if err != nil {
			t.Fatal(err)
		}
		all := []model.Transform{stream, values}
		down, err := NewDown(r.cfg, hadamardOf(r.cfg.Intermediate))
		switch {
		case err == nil:
			all = append(all, down)
		case len(r.cfg.DownWidths()) == 1:
			t.Fatal(err)
		}
		all = rapid.Permutation(all).Draw(t, "order")
		all = all[:rapid.IntRange(1, len(all)).Draw(t, "transforms")]
		var h *Hadamard
		for _, x := range all {
			if x == model.Transform(down) {
				h = down.Hadamard()
			}
		}
		if d := r.off(h, all...); !(d <= preserved) {
			t.Fatalf("logits move by %g of their range", d)
		}
	})
}
