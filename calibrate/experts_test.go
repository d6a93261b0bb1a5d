package calibrate

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// Each expert has statistics of the tokens that reached it, in the order of their
// numbers, and a file keeps them.
func TestExpertsHaveSitesOfTheirOwn(t *testing.T) {
	t.Parallel()
	tried := 0
	for _, shape := range modeltest.Shapes() {
		c := modeltest.Random(3, shape)
		cfg := c.Parsed()
		if cfg.Sparse == nil {
			continue
		}
		tried++
		m, err := model.New(cfg, c.Source(modeltest.Compute()), modeltest.Compute())
		if err != nil {
			t.Fatal(err)
		}
		windows := Windows(modeltest.Tokens(3, 40, cfg.Vocab), 20, 0, 0)
		tokens := map[model.Site]int64{}
		sum := map[model.Site]float64{}
		if _, err := m.Stream(t.Context(), windows, model.StreamOptions{Observe: func(site model.Site, x tensor.Matrix) {
			tokens[site] += int64(x.Rows)
			for i := range x.Rows {
				sum[site] += float64(x.Row(i)[0])
			}
		}}); err != nil {
			t.Fatal(err)
		}
		s := collect(t, m, windows, Options{Hessians: []model.Point{model.ExpertIn}})
		if len(s.Sites) != len(tokens) {
			t.Errorf("%s: %d sites, %d seen", shape.Name, len(s.Sites), len(tokens))
		}
		for layer := range cfg.Layers {
			var order []model.Point
			for i := range s.Sites {
				site := &s.Sites[i]
				if _, e := site.Site.Point.Expert(); e >= 0 && site.Site.Layer == layer {
					order = append(order, site.Site.Point)
				}
				if site.Tokens != tokens[site.Site] || site.Sum[0] != sum[site.Site] || (site.Hessian != nil) != (site.Site.Point.Base() == model.ExpertIn) {
					t.Errorf("%s, %v: %d tokens of %d", shape.Name, site.Site, site.Tokens, tokens[site.Site])
				}
			}
			var want []model.Point
			for _, base := range []model.Point{model.ExpertIn, model.DownIn} {
				for e := range cfg.Experts {
					if cfg.HasExperts(layer) {
						want = append(want, base.Of(e))
					}
				}
			}
			if !slices.Equal(order, want) {
				t.Errorf("%s, layer %d: order %v", shape.Name, layer, order)
			}
		}
		path := filepath.Join(t.TempDir(), "stats")
		if err := s.Save(path); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(s, again) {
			t.Errorf("%s: another after reading", shape.Name)
		}
		only := collect(t, m, windows, Options{Points: []model.Point{model.DownIn}})
		for i := range only.Sites {
			if only.Sites[i].Site.Point.Base() != model.DownIn {
				t.Errorf("%s: %v was not asked for", shape.Name, only.Sites[i].Site)
			}
		}
	}
	if tried < 2 {
		t.Error("no experts to try")
	}
}

func TestNumbersOfExpertsAreStrict(t *testing.T) {
	t.Parallel()
	for p, ok := range map[model.Point]bool{
		"down_in": true, "down_in.0": true, "expert_in.17": true, "expert_in": false, "attn_in.1": false, "down_in.01": false,
		"down_in.-1": false, "down_in.": false, "down_in.70000": false, "down_in.1.2": false,
	} {
		if known(p) != ok {
			t.Errorf("%s: known %v", p, !ok)
		}
	}
}
