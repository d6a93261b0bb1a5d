package calibrate

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

var shape = modeltest.Shape{Family: "llama", Hidden: 32, Intermediate: 80, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8, Vocab: 64, Tied: true}

func random(t *testing.T, edit func(*modeltest.Checkpoint)) (*model.Model, [][]int32) {
	t.Helper()
	c := modeltest.Random(1, shape)
	if edit != nil {
		edit(c)
	}
	m, err := model.New(c.Parsed(), c.Source(modeltest.Compute()), modeltest.Compute())
	if err != nil {
		t.Fatal(err)
	}
	return m, Windows(modeltest.Tokens(1, 90, shape.Vocab), 29, 0, 0)
}

func collect(t *testing.T, m *model.Model, windows [][]int32, o Options) *Stats {
	t.Helper()
	s, err := Collect(context.Background(), m, windows, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every site's sums equal the formulas over all its rows.
func TestCollectEqualsTheFormulas(t *testing.T) {
	t.Parallel()
	m, windows := random(t, nil)
	rows := map[model.Site][][]float32{}
	if _, err := m.Stream(context.Background(), windows, model.StreamOptions{Observe: func(site model.Site, x tensor.Matrix) {
		for i := range x.Rows {
			rows[site] = append(rows[site], slices.Clone(x.Row(i)))
		}
	}}); err != nil {
		t.Fatal(err)
	}
	s := collect(t, m, windows, Options{Hessians: LinearInputs})
	if len(s.Sites) != len(rows) || len(rows) != 2*(len(points)-1) || s.Tokens != 87 || s.Windows != 3 {
		t.Fatalf("%d sites of %d, %d tokens, %d windows", len(s.Sites), len(rows), s.Tokens, s.Windows)
	}
	for site, x := range rows {
		got := s.Site(site)
		if got == nil || got.Tokens != 87 || got.Channels() != len(x[0]) || (got.Hessian != nil) != slices.Contains(LinearInputs, site.Point) {
			t.Fatalf("%v: %+v", site, got)
		}
		for k := range x[0] {
			var top, sum, abs, sq float64
			for _, row := range x {
				v := float64(row[k])
				top, sum, abs, sq = max(top, math.Abs(v)), sum+v, abs+math.Abs(v), sq+v*v
			}
			if float64(got.AbsMax[k]) != top || got.Sum[k] != sum || got.SumAbs[k] != abs || got.SumSq[k] != sq {
				t.Fatalf("%v channel %d: %v %v %v %v, want %v %v %v %v", site, k, got.AbsMax[k], got.Sum[k], got.SumAbs[k], got.SumSq[k], top, sum, abs, sq)
			}
			if mean := sum / 87; got.Mean()[k] != mean || got.MeanAbs()[k] != abs/87 || got.MeanSquare()[k] != sq/87 {
				t.Fatalf("%v channel %d: mean %v, want %v", site, k, got.Mean()[k], mean)
			}
			for j := range x[0] {
				if got.Hessian == nil {
					break
				}
				var want, magnitude float64
				for _, row := range x {
					p := float64(row[k]) * float64(row[j])
					want, magnitude = want+p, magnitude+math.Abs(p)
				}
				if h := got.Hessian.Data[k*got.Hessian.K+j]; math.Abs(h-want) > 3*0x1p-24*magnitude { // three windows, one rounding each
					t.Fatalf("%v Hessian (%d, %d) is %v, want %v", site, k, j, h, want)
				}
			}
		}
	}
	if s.Site(model.Site{Layer: 2, Point: model.V}) != nil {
		t.Error("a site of a layer that is not there")
	}
}

// The radius of every rotary pair, for both pairings; rotation leaves it alone.
func TestCollectRadii(t *testing.T) {
	t.Parallel()
	wide := shape
	wide.Heads, wide.KVHeads, wide.HeadDim = 3, 3, 44 // more pairs than one worker takes, in ranges that begin within a head
	c := modeltest.Random(1, wide)
	for _, pairing := range []model.Pairing{model.HalfSplit, model.Interleaved} {
		cfg := c.Parsed()
		arch := *cfg.Arch
		arch.Pairing, cfg.Arch = pairing, &arch
		m, err := model.New(cfg, c.Source(modeltest.Compute()), modeltest.Compute())
		if err != nil {
			t.Fatal(err)
		}
		windows := Windows(modeltest.Tokens(1, 40, wide.Vocab), 20, 0, 0)
		want := map[model.Site][]float32{}
		if _, err := m.Stream(context.Background(), windows, model.StreamOptions{Observe: func(site model.Site, x tensor.Matrix) {
			if !rotates(site.Point) {
				return
			}
			if want[site] == nil {
				want[site] = make([]float32, x.Cols/2)
			}
			for i := range x.Rows {
				for k, v := range x.Row(i) {
					head, channel := k/cfg.HeadDim, k%cfg.HeadDim
					pair := channel % (cfg.HeadDim / 2)
					other := (channel + cfg.HeadDim/2) % cfg.HeadDim
					if pairing == model.Interleaved {
						pair, other = channel/2, channel/2*2+1-channel%2
					}
					w := x.Row(i)[head*cfg.HeadDim+other]
					top := &want[site][head*cfg.HeadDim/2+pair]
					*top = max(*top, float32(math.Sqrt(float64(v)*float64(v)+float64(w)*float64(w))))
				}
			}
		}}); err != nil {
			t.Fatal(err)
		}
		s := collect(t, m, windows, Options{})
		for i := range s.Sites {
			if got := &s.Sites[i]; !slices.Equal(got.PairMax, want[got.Site]) {
				t.Errorf("pairing %d, %v: radii %v, want %v", pairing, got.Site, got.PairMax, want[got.Site])
			}
		}
		pre, post := s.Site(model.Site{Layer: 1, Point: model.KPre}), s.Site(model.Site{Layer: 1, Point: model.KPost})
		for p, r := range pre.PairMax {
			// Either channel rounds its sines, products and sum: √2·3 roundings, and the radii one each.
			if d := math.Abs(float64(post.PairMax[p] - r)); !(r > 0) || d > 7*0x1p-24*float64(r) {
				t.Errorf("pairing %d, pair %d: radius %v before rotation, %v after", pairing, p, r, post.PairMax[p])
			}
		}
	}
}

// The Hessian's panels and token spans cover matrices larger than both.
func TestHessianAcrossPanels(t *testing.T) {
	t.Parallel()
	const k, tokens = panel + 70, tokenSpan + 30
	x := tensor.Matrix{Rows: tokens, Cols: k, Stride: k + 3, Data: make([]float32, tokens*(k+3))}
	for i := range x.Data {
		x.Data[i] = float32(i*7919%17 - 8) // sums are integers: exact
	}
	h := &Hessian{K: k, Data: make([]float64, k*k)}
	(&gram{product: PlainMatMulT}).add(h, x)
	h.mirror()
	for i := range k {
		for j := range k {
			want := 0.0
			for r := range tokens {
				want += float64(x.Row(r)[i]) * float64(x.Row(r)[j])
			}
			if h.Data[i*k+j] != want {
				t.Fatalf("(%d, %d) is %v, want %v", i, j, h.Data[i*k+j], want)
			}
		}
	}
}

// Not parallel: it changes GOMAXPROCS.
func TestCollectIsTheSameForAnyNumberOfWorkers(t *testing.T) {
	m, windows := random(t, nil)
	all := collect(t, m, windows, Options{Hessians: LinearInputs})
	old := runtime.GOMAXPROCS(1)
	one := collect(t, m, windows, Options{Hessians: LinearInputs})
	runtime.GOMAXPROCS(7)
	seven := collect(t, m, windows, Options{Hessians: LinearInputs})
	runtime.GOMAXPROCS(old)
	if !cmp.Equal(all, one) || !cmp.Equal(all, seven) {
		t.Error("statistics depend on GOMAXPROCS")
	}
}

func TestOnSitesTakesBlockByBlock(t *testing.T) {
	t.Parallel()
	m, windows := random(t, nil)
	var order, blocks []int
	s := collect(t, m, windows, Options{
		Points:   []model.Point{model.AttnIn, model.DownIn},
		Hessians: []model.Point{model.DownIn},
		OnSites: func(sites []*SiteStats) error {
			layer := sites[0].Site.Layer
			if len(sites) != 2 || sites[0].Hessian != nil || sites[0].Site.Point != model.AttnIn {
				t.Errorf("%d sites, the first %v", len(sites), sites[0].Site)
			}
			if h := sites[1].Hessian; h.K != 80 || h.Data[80] != h.Data[1] || h.Data[0] <= 0 {
				t.Errorf("%v: Hessian of %d", sites[1].Site, h.K)
			}
			if len(blocks) != layer {
				t.Errorf("layer %d came after %d blocks", layer, len(blocks))
			}
			order = append(order, layer)
			return nil
		},
		OnBlock: func(done, _ int) { blocks = append(blocks, done) },
	})
	if diff := cmp.Diff([][]int{{0, 1}, {1, 2}}, [][]int{order, blocks}); diff != "" {
		t.Errorf("layers and blocks (-want +got):\n%s", diff)
	}
	if len(s.Sites) != 4 || s.Sites[1].Hessian != nil {
		t.Errorf("%d sites, Hessian kept: %t", len(s.Sites), s.Sites[1].Hessian != nil)
	}
}

func TestCollectStops(t *testing.T) {
	t.Parallel()
	m, windows := random(t, nil)
	full := errors.New("disk full")
	for _, layer := range []int{0, 1} { // also in the last block
		_, err := Collect(context.Background(), m, windows, Options{Hessians: LinearInputs, OnSites: func(sites []*SiteStats) error {
			if sites[0].Site.Layer == layer {
				return full
			}
			return nil
		}})
		if !errors.Is(err, full) {
			t.Errorf("an error of OnSites in layer %d: %v", layer, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Collect(ctx, m, windows, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	bad, windows := random(t, func(c *modeltest.Checkpoint) {
		c.Tensors["model.layers.1.input_layernorm.weight"].Data[5] = float32(math.Inf(1))
	})
	_, err := Collect(context.Background(), bad, windows, Options{})
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "layer 1, attn_in, channel 5") {
		t.Errorf("an infinite channel: %v", err)
	}
}
