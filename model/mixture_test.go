package model_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/tensor"
)

// TestRoutersChooseDifferentExperts holds that no expert is a stand-in for another:
// the goldens and this reach all of them, and a window that reaches few shows few.
func TestRoutersChooseDifferentExperts(t *testing.T) {
	t.Parallel()
	for _, s := range modeltest.Shapes() {
		c := modeltest.Random(7, s)
		cfg := c.Parsed()
		if cfg.Sparse == nil {
			continue
		}
		m, err := model.New(cfg, c.Source(modeltest.Compute()), modeltest.Compute())
		if err != nil {
			t.Fatal(err)
		}
		const tokens = 40
		reached := map[model.Site]int{}
		_, err = m.Stream(t.Context(), [][]int32{modeltest.Tokens(7, tokens, cfg.Vocab)}, model.StreamOptions{
			Observe: func(site model.Site, x tensor.Matrix) { reached[site] = x.Rows },
		})
		if err != nil {
			t.Fatal(err)
		}
		for layer := range cfg.Layers {
			total := 0
			for e := range cfg.Experts {
				in, down := reached[model.Site{Layer: layer, Point: model.ExpertIn.Of(e)}], reached[model.Site{Layer: layer, Point: model.DownIn.Of(e)}]
				if in != down || cfg.HasExperts(layer) != (in > 0) {
					t.Errorf("%s, layer %d, expert %d: %d and %d tokens", s.Name, layer, e, in, down)
				}
				total += in
			}
			if want := tokens * cfg.ExpertsPerToken; cfg.HasExperts(layer) && total != want {
				t.Errorf("%s, layer %d: %d tokens in all experts, wanted %d", s.Name, layer, total, want)
			}
		}
	}
}

// A block shows the tokens that the router of another version of it chose.
func TestUntilExpertFollowsAnotherRouter(t *testing.T) {
	t.Parallel()
	shapes := modeltest.Shapes()
	i := 0
	for shapes[i].Family != "mixtral" {
		i++
	}
	c := modeltest.Random(8, shapes[i])
	other := modeltest.Random(8, shapes[i])
	router := other.Tensors["model.layers.0.block_sparse_moe.gate.weight"].Data
	for j := range router {
		router[j] = -router[j]
	}
	block := func(c *modeltest.Checkpoint) *model.Block {
		m, err := model.New(c.Parsed(), c.Source(modeltest.Compute()), modeltest.Compute())
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Block(0)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	norm := other.Tensors["model.layers.0.post_attention_layernorm.weight"].Data
	for j := range norm {
		norm[j] *= 1.5
	}
	leader, follower := block(other), block(c)
	x, y := tensor.NewMatrix(12, c.Parsed().Hidden), tensor.NewMatrix(12, c.Parsed().Hidden)
	for j := range x.Data {
		x.Data[j] = float32(j%17) - 8 + float32(j%5)
		y.Data[j] = float32(j%19) - 9 + float32(j%7)
	}
	read := rowsOf(follower.Until(model.MLPIn, y)) // what the follower's experts choose from
	routing, own := leader.Route(x), follower.Route(x)
	same := 0
	for e := range c.Parsed().Experts {
		want := leader.UntilExpert(model.ExpertIn.Of(e), x, routing)
		if got := follower.UntilExpert(model.ExpertIn.Of(e), x, routing); got.Rows != want.Rows {
			t.Fatalf("expert %d: %d rows, wanted %d", e, got.Rows, want.Rows)
		}
		chosen := rowsOf(want)
		follower.Until(model.MLPIn, x) // what another input leaves behind must not show
		got := rowsOf(follower.UntilExpert(model.ExpertIn.Of(e), y, routing))
		all, next := rowsOf(leader.Until(model.MLPIn, x)), 0
		for row := range all {
			if next < len(chosen) && slices.Equal(all[row], chosen[next]) {
				if !slices.Equal(got[next], read[row]) {
					t.Errorf("expert %d: row %d is not the follower's", e, row)
				}
				next++
			}
		}
		if next != len(chosen) {
			t.Fatalf("expert %d: %d of %d rows found", e, next, len(chosen))
		}
		if own.Rows(e) == routing.Rows(e) {
			same++
		}
	}
	if same == c.Parsed().Experts {
		t.Error("both routers choose alike: the test shows nothing")
	}
}

// rowsOf copies the rows.
func rowsOf(m tensor.Matrix) [][]float32 {
	rows := make([][]float32, m.Rows)
	for i := range rows {
		rows[i] = slices.Clone(m.Row(i))
	}
	return rows
}

func TestStackedExpertsAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range modeltest.Shapes() {
		c := modeltest.Random(9, s)
		if c.Parsed().Sparse == nil {
			continue
		}
		layer := "model.layers.1."
		if !c.Parsed().HasExperts(1) {
			layer = "model.layers.0."
		}
		name := layer + "mlp.experts.gate_up_proj" // of Mixtral too, in transformers 5
		c.Tensors[name] = modeltest.Tensor{Shape: []int{4, 4}, Data: make([]float32, 16)}
		dir := t.TempDir()
		if err := c.Write(dir); err != nil {
			t.Fatal(err)
		}
		r, err := checkpoint.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if err := model.Check(c.Parsed(), r); !errors.Is(err, checkpoint.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v", err)
		}
	}
}
