package packer

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/calibrate"
	"quantize/tensor"
)

// The cosine of a layer is that of its weight and of what the runtime decodes.
func TestLayerCosine(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	w, x := tensor.NewMatrix(6, 256), tensor.NewMatrix(512, 256)
	for i := range w.Data {
		w.Data[i] = float32(r.NormFloat64())
	}
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	o := Int4Options{Grid: GridLUT, GroupSize: 128, FP8Activations: true}
	int4, int4Report, err := QuantizeInt4(w, o)
	if err != nil {
		t.Fatal(err)
	}
	fp8, fp8Report, err := QuantizeFP8(w)
	if err != nil {
		t.Fatal(err)
	}
	h := &calibrate.Hessian{K: w.Cols, Data: make([]float64, w.Cols*w.Cols)}
	sums := calibrate.NewAccumulator(calibrate.PlainMatMulT)
	sums.Add(h, x)
	sums.Complete(h)
	f, err := FactorHessian(h, FactorOptions{Damp: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	gptq, gptqReport, err := QuantizeGPTQ(w, f, GPTQOptions{Int4Options: o, Propagation: Propagation{MatMulT: calibrate.PlainMatMulT}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		weight Weight
		layer  Layer
		a      Arithmetic
	}{
		{"int4", int4, int4Report.Layer(), LUT}, {"fp8", fp8, fp8Report.Layer(), Exact}, {"gptq", gptq, gptqReport.Layer(), LUT},
	} {
		got := tensor.NewMatrix(w.Rows, w.Cols)
		c.weight.Decode(got, c.a)
		var dot, a, b float64
		for i, v := range w.Data {
			v, g := float64(v), float64(got.Data[i])
			dot, a, b = dot+v*g, a+v*v, b+g*g
		}
		if want := dot / math.Sqrt(a*b); c.layer.Cosine == nil || math.Abs(*c.layer.Cosine-want) > 6e-5 || want > 0.99999 {
			t.Errorf("%s: cosine %v, want %v", c.name, c.layer.Cosine, want)
		}
	}
	if c := cosine(0, 0, 0); !math.IsNaN(c) {
		t.Errorf("of zeros: %v", c)
	}
}
