package main

import (
	"quantize/model"
	"quantize/recipe"
)

// seconds adds the work of all stages.
func (e *estimate) seconds(m machine) float64 {
	var weights float64
	for _, l := range e.preview.Linears {
		weights += float64(l.N) * float64(l.K)
	}
	hashed := float64(e.preview.BytesIn + e.preview.BytesOut)
	rounded := weights
	if e.searched() {
		rounded += trials * weights
	}
	total := rounded/m.Rounding + hashed/m.Hashing/float64(m.Cores)
	if !e.recipe.Calibrated() {
		return total
	}
	total += float64(e.passes()) * 2 * (weights - e.idle()) * float64(e.tokens()) / m.Forward / 1e9
	products, cubes := e.solving()
	total += products / m.GFLOPS / 1e9
	if cubes > 0 {
		total += cubes / m.Factor / 1e9
	}
	return total
}

// trials is how many scales a search tries for each site, rounding its linears each time.
const trials = 20

func (e *estimate) searched() bool {
	return e.recipe.Smoothing.Method == recipe.AWQ || e.recipe.Smoothing.Search
}

// solving is the work on Hessians: operations of the FP32 product, and those that machine.Factor
// counts. For each site K² a token; a search of scales 2·N·K² a trial and linear. GPTQ adds K³ a
// site for its factor and N·K² a linear for its own sweep; target: full-precision a product
// a linear and the solution of the drift, 2·K² a row of it: K rows a site, or the N rows
// of linears that write the stream.
func (e *estimate) solving() (products, cubes float64) {
	gptq := e.recipe.Weights.Rounding == recipe.GPTQ
	searched := e.searched()
	if !gptq && !searched {
		return 0, 0
	}
	seen := map[model.Site]bool{}
	for _, t := range model.Tensors(e.config) {
		if t.Kind != model.KindLinear {
			continue
		}
		n, k := float64(t.Shape[0]), float64(t.Shape[1])
		tokens := float64(e.tokens()) * e.share(t.Role)
		if site := (model.Site{Layer: t.Layer, Point: t.Input()}); !seen[site] {
			seen[site] = true
			products += k * k * tokens
			if gptq {
				cubes += k * k * k
			}
			if e.fullPrecision() {
				rows := k
				if t.Role == model.RoleO || t.Role == model.RoleDown { // not of experts
					rows = n
				}
				products += 2 * k * k * tokens
				cubes += 2 * rows * k * k
			}
		}
		if searched {
			products += 2 * trials * n * k * k
		}
		if gptq {
			products += n * k * k
		}
		if e.fullPrecision() {
			products += 2 * n * k * k
		}
	}
	return products, cubes
}

// share is the part of all tokens that a linear sees.
func (e *estimate) share(r model.Role) float64 {
	if r < model.RoleExpertGate {
		return 1
	}
	return float64(e.config.ExpertsPerToken) / float64(e.config.Experts)
}

// idle is how many weights the average token passes by.
func (e *estimate) idle() float64 {
	total := 0.0
	for _, t := range model.Tensors(e.config) {
		if t.Kind == model.KindLinear {
			total += (1 - e.share(t.Role)) * float64(t.Shape[0]) * float64(t.Shape[1])
		}
	}
	return total
}

// passes counts the forward passes over the calibration text. GPTQ goes through
// each block once to the input of each site and once to its end, which is about two.
func (e *estimate) passes() int {
	r, n := e.recipe, 0
	if r.Rotation.Residual.Calibrated() || r.Rotation.Values.Calibrated() {
		n++
	}
	if len((&scaler{recipe: r}).sites().Points) > 0 {
		n++
	}
	switch {
	case r.Weights.Rounding == recipe.GPTQ && e.fullPrecision():
		n += 4
	case r.Weights.Rounding == recipe.GPTQ:
		n += 2
	case r.Weights.Importance == recipe.Activations:
		n++
	}
	return n
}
