package model_test

import (
	"math"
	"testing"

	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// foldNorms moves the weight of every norm into what reads it: the simplest
// transform that touches blocks, embedding's twin and final norm.
type foldNorms struct{ cfg *model.Config }

func (foldNorms) Embedding(*model.Param) {}
func (foldNorms) Unties() bool           { return true }

func (foldNorms) Head(rows *model.Param, norm []float64) {
	for i := range rows.Rows {
		for j := range rows.Row(i) {
			rows.Row(i)[j] *= norm[j]
		}
	}
}

func (foldNorms) FinalNorm(norm []float64) {
	for j := range norm {
		norm[j] = 1
	}
}

func (f foldNorms) Block(layer int, p model.Params) {
	for _, feed := range f.cfg.Feeds(layer) {
		if feed.Site != model.AttnIn && feed.Site != model.MLPIn {
			continue
		}
		norm := p.Weight(feed.From).Data
		for _, to := range feed.To {
			foldNorms{}.Head(p.Weight(to), norm)
		}
		foldNorms{}.FinalNorm(norm)
	}
}

func TestFoldedModelIsTheSameFunction(t *testing.T) {
	for _, shape := range modeltest.Shapes() {
		t.Run(shape.Name, func(t *testing.T) {
			c := modeltest.Random(3, shape)
			cfg := c.Parsed()
			tokens := modeltest.Tokens(3, 12, cfg.Vocab)
			want := modeltest.Logits(cfg, c.Widen(), tokens)

			moved, untied := c.Widen().Apply(cfg, foldNorms{cfg})
			if d := farthest(modeltest.Logits(untied, moved, tokens), want); d > 1e-12 {
				t.Errorf("float64: logits differ by %g", d)
			}
			f, err := model.Fold(cfg, c.Source(modeltest.Compute()), modeltest.Compute(), foldNorms{cfg})
			if err != nil {
				t.Fatal(err)
			}
			m, err := model.New(f.Config(), f, modeltest.Compute())
			if err != nil {
				t.Fatal(err)
			}
			hidden, err := m.Stream(t.Context(), [][]int32{tokens}, model.StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			head, err := m.Head()
			if err != nil {
				t.Fatal(err)
			}
			got := tensor.NewMatrix(len(tokens), cfg.Vocab)
			head.Logits(got, hidden[0])
			wide := make([][]float64, len(tokens))
			for i := range wide {
				for _, v := range got.Row(i) {
					wide[i] = append(wide[i], float64(v))
				}
			}
			if d := farthest(wide, want); d > 1e-5 {
				t.Errorf("folded source: logits differ by %g", d)
			}
		})
	}
}

// farthest is the largest difference relative to the range of want.
func farthest(got, want [][]float64) float64 {
	low, high, most := math.Inf(1), math.Inf(-1), 0.0
	for i := range want {
		for j, v := range want[i] {
			low, high = min(low, v), max(high, v)
			most = max(most, math.Abs(got[i][j]-v))
		}
	}
	return most / (high - low)
}

// Stages of a block give what Forward gives.
func TestStagesAreForward(t *testing.T) {
	for _, shape := range modeltest.Shapes() {
		c := modeltest.Random(4, shape)
		cfg := c.Parsed()
		m, err := model.New(cfg, c.Source(modeltest.Compute()), modeltest.Compute())
		if err != nil {
			t.Fatal(err)
		}
		hidden, err := m.Embed([][]int32{modeltest.Tokens(4, 9, cfg.Vocab)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Block(1)
		if err != nil {
			t.Fatal(err)
		}
		whole := tensor.NewMatrix(9, cfg.Hidden)
		copy(whole.Data, hidden[0].Data)
		seen := map[model.Point]tensor.Matrix{}
		b.Forward(whole, func(s model.Site, x tensor.Matrix) {
			kept := tensor.NewMatrix(x.Rows, x.Cols)
			copy(kept.Data, x.Data)
			seen[s.Point] = kept
		})
		same := func(what string, a, b tensor.Matrix) {
			t.Helper()
			for i, v := range a.Data {
				if v != b.Data[i] {
					t.Fatalf("%s: %s: element %d is %v, wanted %v", shape.Name, what, i, v, b.Data[i])
				}
			}
		}
		x := hidden[0]
		same("attn_in", b.Until(model.AttnIn, x), seen[model.AttnIn])
		same("o_in", b.Until(model.OIn, x), seen[model.OIn])
		b.FinishAttention(x, nil)
		same("mlp_in", b.Until(model.MLPIn, x), seen[model.MLPIn])
		if cfg.HasExperts(1) {
			r := b.Route(x)
			for e := range cfg.Experts {
				for _, p := range []model.Point{model.ExpertIn.Of(e), model.DownIn.Of(e)} {
					if got := b.UntilExpert(p, x, r); got.Rows != seen[p].Rows || got.Rows != r.Rows(e) {
						t.Fatalf("%s: %s has %d rows, wanted %d", shape.Name, p, got.Rows, seen[p].Rows)
					}
					same(string(p), b.UntilExpert(p, x, r), seen[p])
				}
			}
		} else {
			same("down_in", b.Until(model.DownIn, x), seen[model.DownIn])
		}
		b.FinishMLP(x, nil)
		same("output", x, whole)
	}
}
