package kernels_test

import (
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// vllmLinears is how far linears of vLLM's first, middle and last block are from ours on
// the input that vLLM gave them: relative difference in the Euclidean norm. Rounding the
// output to the stored type alone makes 0.4 unit roundoffs of it.
type vllmLinears struct {
	Linears int     `json:"linears"`
	Worst   float64 `json:"worst"` // of the reading that vLLM computes
	Equal   float64 `json:"equal"` // share of outputs that are ours, rounded to the stored type, to the bit
	// Of the other reading, where there is one: the least and the largest difference, and of how
	// many linears it is not above that of the first.
	Other  [2]float64 `json:"other"`
	Nearer int        `json:"nearer"`
}

// compareLinears compares every NAME.in and NAME.out of the dump.
func compareLinears(t *testing.T, r, dump *checkpoint.Reader, readings []packer.Arithmetic, stored vllmType) (out vllmLinears) {
	t.Helper()
	equal, outputs := 0, 0
	for _, name := range dump.Names() {
		fused, ok := strings.CutSuffix(name, ".in")
		if !ok {
			continue
		}
		x, want := read(t, dump, name), read(t, dump, fused+".out")
		ours := fusedLinear(t, r, readings[0], stored, fused, x)
		first := relative(ours.Data, want.Data)
		out.Linears++
		out.Worst = max(out.Worst, first)
		for i, v := range ours.Data {
			outputs++
			if stored.of(v) == want.Data[i] {
				equal++
			}
		}
		for _, a := range readings[1:] {
			d := relative(fusedLinear(t, r, a, stored, fused, x).Data, want.Data)
			if out.Linears == 1 || d < out.Other[0] {
				out.Other[0] = d
			}
			out.Other[1] = max(out.Other[1], d)
			if !(first < d) {
				out.Nearer++
			}
		}
	}
	out.Equal = float64(equal) / float64(max(1, outputs))
	return out
}

// fusedLinear runs those of our linears that vLLM holds as one, their outputs side by side.
func fusedLinear(t *testing.T, r *checkpoint.Reader, a packer.Arithmetic, stored vllmType, fused string, x tensor.Matrix) tensor.Matrix {
	t.Helper()
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	src, err := kernels.Source(r, ofType{cpu.New(), stored}, a)
	if err != nil {
		t.Fatal(err)
	}
	modules := map[model.Role]string{}
	for _, e := range model.Tensors(cfg) {
		if e.Kind == model.KindLinear && e.Layer == cfg.LayerOf(fused) {
			modules[e.Role] = e.Module
		}
	}
	var parts []tensor.Matrix
	n := 0
	for _, role := range vllmParts[fused[strings.LastIndex(fused, ".")+1:]] {
		l, err := src.Linear(modules[role])
		if err != nil {
			t.Fatal(err)
		}
		rows, _ := l.Shape()
		y := tensor.NewMatrix(x.Rows, rows)
		l.Forward(y, x)
		parts, n = append(parts, y), n+rows
	}
	all := tensor.NewMatrix(x.Rows, n)
	for m := range x.Rows {
		row := all.Row(m)[:0]
		for _, y := range parts {
			row = append(row, y.Row(m)...)
		}
	}
	return all
}
