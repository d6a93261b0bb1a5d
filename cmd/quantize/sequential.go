package main

import (
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// sequential makes the rounding of recipes with rounding: gptq.
func (l *loaded) sequential(r *recipe.Recipe, windows [][]int32, transforms []model.Transform, target model.Runtime) (*packer.Sequential, error) {
	weights, err := l.fold(transforms)
	if err != nil {
		return nil, err
	}
	decision, err := decide(l.config, r)
	if err != nil {
		return nil, err
	}
	arithmetic := decision.Grid.Arithmetic()
	var backend kernels.Backend = l.compute
	return packer.NewSequential(packer.SequentialOptions{
		Weights: weights, Compute: l.compute, Runtime: target, MatMulT: l.compute.MatMulT, Windows: windows,
		Scheme: decision.Scheme, Buffer: l.buffer, Journal: l.journal,
		Linear: func(w packer.Weight, bias []float32) (model.Linear, error) {
			return backend.QuantLinear(w, arithmetic, bias)
		},
		Damp: r.Weights.Damp, ActOrder: r.Weights.ActOrder,
		Importance:    r.Weights.Importance == recipe.Activations,
		FullPrecision: r.Weights.Target == recipe.FullPrecision,
	})
}
