package packer

import (
	"context"
	"path/filepath"
	"testing"

	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/model/tokenizer"
)

// On every linear of a trained model, under the Hessians of a text it was not
// trained on, propagation loses less than rounding to nearest.
func TestGPTQOnATrainedModel(t *testing.T) {
	t.Parallel()
	demo := filepath.Join("..", "cmd", "quantize", "demo")
	r, err := checkpoint.Open(filepath.Join(demo, "model"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	src := model.FromCheckpoint(r, modeltest.Compute())
	m, err := model.New(cfg, src, modeltest.Compute())
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Load(filepath.Join(demo, "model"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := calibrate.Tokens(tok, 3000, filepath.Join(demo, "calibration.txt"))
	if err != nil {
		t.Fatal(err)
	}
	stats, err := calibrate.Collect(context.Background(), m, calibrate.Windows(tokens, 150, 2, 0), calibrate.Options{
		Points: calibrate.LinearInputs, Hessians: calibrate.LinearInputs, MatMulT: floatMatMulT,
	})
	if err != nil {
		t.Fatal(err)
	}
	linears := 0
	for _, s := range stats.Sites {
		f, err := FactorHessian(s.Hessian, FactorOptions{ActOrder: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range model.Tensors(cfg) {
			if e.Kind != model.KindLinear || e.Layer != s.Site.Layer || inputOf[e.Role] != s.Site.Point {
				continue
			}
			w, err := src.Matrix(e.Name)
			if err != nil {
				t.Fatal(err)
			}
			_, rep := gptq(t, w, f, lut(128))
			if rep.Loss >= rep.LossRTN || rep.Loss <= 0 {
				t.Errorf("%s: loss %g, of RTN %g", e.Module, rep.Loss, rep.LossRTN)
			}
			t.Logf("%s: loss %.4g, of RTN %.4g", e.Module, rep.Loss, rep.LossRTN)
			linears++
		}
	}
	if linears != 7*cfg.Layers {
		t.Errorf("%d linears", linears)
	}
}

var inputOf = map[model.Role]model.Point{
	model.RoleQ: model.AttnIn, model.RoleK: model.AttnIn, model.RoleV: model.AttnIn, model.RoleO: model.OIn,
	model.RoleGate: model.MLPIn, model.RoleUp: model.MLPIn, model.RoleDown: model.DownIn,
}
