package smoothing

import (
	"errors"
	"math"
	"slices"
	"testing"

	"quantize/calibrate"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// QᵀMQ is diagonal and falls; the largest component of each column is positive.
func TestPCADiagonalises(t *testing.T) {
	t.Parallel()
	const n = 40
	x := correlated(1, 200, n)
	q, err := NewPCA(momentOf(n, x))
	if err != nil {
		t.Fatal(err)
	}
	rotated := slices.Clone(x)
	for i := 0; i < len(rotated); i += n {
		q.Rotate(rotated[i : i+n])
	}
	m := momentOf(n, rotated).Data
	for i := range n {
		if i > 0 && m[i*n+i] > m[(i-1)*n+i-1] {
			t.Errorf("energy %d is above the one before", i)
		}
		for j := range i {
			if math.Abs(m[i*n+j]) > 1e-11*m[0] {
				t.Errorf("channels %d and %d keep a moment of %g", i, j, m[i*n+j])
			}
		}
		top := 0.0
		for c := range n {
			if v := q.q.Data[c*n+i]; math.Abs(v) > math.Abs(top) {
				top = v
			}
		}
		if top <= 0 {
			t.Errorf("column %d: its largest component is %v", i, top)
		}
	}
}

// PCA gathers the energy; a Hadamard after it spreads it evenly again, which
// the plain Hadamard does not promise for correlated channels.
func TestPCAHadamardSpreadsTheEnergy(t *testing.T) {
	t.Parallel()
	const n = 64
	x := correlated(1, 400, n)
	share := func(q Orthogonal) float64 { // of the strongest channel, 1 when all are equal
		y := slices.Clone(x)
		for i := 0; i < len(y); i += n {
			q.Rotate(y[i : i+n])
		}
		m, top, sum := momentOf(n, y).Data, 0.0, 0.0
		for c := range n {
			top, sum = max(top, m[c*n+c]), sum+m[c*n+c]
		}
		return top / sum * n
	}
	pca, err := NewPCA(momentOf(n, x))
	if err != nil {
		t.Fatal(err)
	}
	both, err := NewPCAHadamard(momentOf(n, x), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s := share(pca); s < 20 {
		t.Errorf("PCA: the first channel has %.2f times its share", s)
	}
	if s := share(both); s > 1+1e-9 {
		t.Errorf("PCA and Hadamard: a channel has %v times its share", s)
	}
}

func TestPCARefuses(t *testing.T) {
	t.Parallel()
	bad := momentOf(4, gaussian(1, 40))
	bad.Data[6] = math.NaN()
	if _, err := NewPCA(bad); !errors.Is(err, ErrRotation) {
		t.Errorf("NaN: error %v", err)
	}
	if _, err := NewPCAHadamard(momentOf(14, gaussian(1, 140)), 1, 0); !errors.Is(err, ErrNoHadamard) {
		t.Errorf("order 14: error %v", err)
	}
	if _, err := NewPCA(&calibrate.Hessian{K: 3, Data: make([]float64, 4)}); !errors.Is(err, ErrRotation) {
		t.Errorf("wrong length: error %v", err)
	}
}

// The moments of a model's norms, their weights taken out, are those of the
// model whose norms were fused.
func TestResidualMomentIsThatOfTheFusedModel(t *testing.T) {
	t.Parallel()
	shape := modeltest.Shapes()[1]
	c := modeltest.Random(5, shape)
	cfg := c.Parsed()
	windows := [][]int32{modeltest.Tokens(5, 40, cfg.Vocab)}
	sum := func(source model.Source, cfg *model.Config) *calibrate.Hessian {
		m, err := model.New(cfg, source, modeltest.Compute())
		if err != nil {
			t.Fatal(err)
		}
		points := []model.Point{model.AttnIn, model.MLPIn}
		stats, err := calibrate.Collect(t.Context(), m, windows, calibrate.Options{Points: points, Hessians: points})
		if err != nil {
			t.Fatal(err)
		}
		total := &calibrate.Hessian{K: cfg.Hidden, Data: make([]float64, cfg.Hidden*cfg.Hidden)}
		names := map[model.Point]string{model.AttnIn: cfg.Arch.AttnNorm, model.MLPIn: cfg.Arch.MLPNorm}
		for _, s := range stats.Sites {
			w, err := source.Matrix(cfg.Arch.Layers + string(rune('0'+s.Site.Layer)) + "." + names[s.Site.Point] + ".weight")
			if err != nil {
				t.Fatal(err)
			}
			AddResidualMoment(total, s.Hessian, wide(w))
		}
		return total
	}
	folded, err := model.Fold(cfg, c.Source(modeltest.Compute()), modeltest.Compute(), &Residual{config: cfg, q: identity(cfg.Hidden)})
	if err != nil {
		t.Fatal(err)
	}
	got, want := sum(c.Source(modeltest.Compute()), cfg), sum(folded, folded.Config())
	for i, v := range got.Data {
		size := math.Sqrt(want.Data[i/cfg.Hidden*(cfg.Hidden+1)] * want.Data[i%cfg.Hidden*(cfg.Hidden+1)])
		if math.Abs(v-want.Data[i]) > 1e-5*size { // activations are FP32
			t.Fatalf("element %d is %v, wanted %v", i, v, want.Data[i])
		}
	}
	rms := 0.0 // and every x̂ has mean square 1: the trace is tokens·norms·Hidden
	for i := range cfg.Hidden {
		rms += got.Data[i*cfg.Hidden+i]
	}
	if w := float64(40 * 2 * cfg.Layers * cfg.Hidden); math.Abs(rms-w) > 1e-3*w {
		t.Errorf("trace %v, wanted %v", rms, w)
	}
}

func wide(m tensor.Matrix) []float64 {
	var w []float64
	for _, v := range m.Data {
		w = append(w, float64(v))
	}
	return w
}

// α = mean|c|²/mean|c_0|² on the data itself (methods.md 6.7), both halves.
func TestLatentSharesAreThoseOfTheData(t *testing.T) {
	t.Parallel()
	const n = 32
	c := correlated(3, 300, n)
	latent, err := LatentPCA(momentOf(n, c))
	if err != nil {
		t.Fatal(err)
	}
	var total, first, second float64
	for i := 0; i < len(c); i += n {
		row := c[i : i+n]
		total += norm(row) * norm(row)
		latent.U.Rotate(row)
		first += norm(row[:n/2]) * norm(row[:n/2])
		second += norm(row[n/2:]) * norm(row[n/2:])
	}
	if d := latent.Alpha - total/first; math.Abs(d) > 1e-12*latent.Alpha {
		t.Errorf("alpha %v is off by %g", latent.Alpha, d)
	}
	if d := latent.Beta - total/second; math.Abs(d) > 1e-9*latent.Beta {
		t.Errorf("beta %v is off by %g", latent.Beta, d)
	}
	if !(latent.Alpha > 1 && latent.Alpha < 2 && latent.Beta > 2) { // the paper's reciprocals are below 1
		t.Errorf("alpha %v, beta %v", latent.Alpha, latent.Beta)
	}

	isotropic := &calibrate.Hessian{K: 4, Data: []float64{3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3}}
	if l, err := LatentPCA(isotropic); err != nil || l.Alpha != 2 || l.Beta != 2 {
		t.Errorf("equal energy: %+v, error %v", l, err)
	}
	flat := &calibrate.Hessian{K: 2, Data: []float64{5, 0, 0, 0}}
	if _, err := LatentPCA(flat); !errors.Is(err, ErrRotation) {
		t.Errorf("rank 1 of 2: error %v", err)
	}
	if _, err := LatentPCA(momentOf(3, gaussian(1, 30))); !errors.Is(err, ErrRotation) {
		t.Errorf("odd: error %v", err)
	}
}
