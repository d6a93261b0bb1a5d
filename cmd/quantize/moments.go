package main

import (
	"context"

	"quantize/calibrate"
	"quantize/model"
	"quantize/smoothing"
)

// moments are the second moments that PCA rotations are made of.
type moments struct {
	residual *calibrate.Hessian   // of the residual stream, over all norms
	values   []*calibrate.Hessian // of all heads together, by layer
}

// moments runs the untransformed model over the calibration text.
func (e *env) moments(ctx context.Context, l *loaded, windows [][]int32) (*moments, error) {
	c := l.config
	weights, err := l.fold(nil)
	if err != nil {
		return nil, err
	}
	m := &moments{residual: newHessian(c.Hidden)}
	points := []model.Point{model.AttnIn, model.V, model.MLPIn}
	_, err = e.collect(ctx, l, windows, nil, calibrate.Options{Points: points, Hessians: points, Phase: m.phase(), OnSites: func(sites []*calibrate.SiteStats) error {
		p, err := weights.Block(sites[0].Site.Layer)
		if err != nil {
			return err
		}
		for _, s := range sites {
			switch s.Site.Point {
			case model.AttnIn:
				smoothing.AddResidualMoment(m.residual, s.Hessian, p.Weight(c.Arch.AttnNorm).Data)
			case model.MLPIn:
				smoothing.AddResidualMoment(m.residual, s.Hessian, p.Weight(c.Arch.MLPNorm).Data)
			default:
				m.values = append(m.values, s.Hessian)
			}
		}
		return nil
	}})
	return m, err
}

// momentsState is what a journal keeps of moments.
type momentsState struct {
	Residual *calibrate.Hessian
	Values   []*calibrate.Hessian
}

func (m *moments) phase() *calibrate.Phase {
	return &calibrate.Phase{
		Key:  "moments",
		Save: func() ([]byte, error) { return calibrate.Encode(momentsState{m.residual, m.values}) },
		Restore: func(data []byte) error {
			var s momentsState
			err := calibrate.Decode(data, &s)
			m.residual, m.values = s.Residual, s.Values
			return err
		},
	}
}

func newHessian(k int) *calibrate.Hessian {
	return &calibrate.Hessian{K: k, Data: make([]float64, k*k)}
}
