package packer

import (
	"math"
	"math/rand/v2"
	"testing"

	"quantize/calibrate"
	"quantize/tensor"
)

// The figures of the outputs are those of the outputs: against X Wᵀ and X W'ᵀ
// themselves in FP64, by either product, with and without act-order, across
// strips and with dead inputs.
func TestOutputsAgainstTokens(t *testing.T) {
	const k, tokens = 192, 300
	r := rand.New(rand.NewPCG(5, 6))
	x := make([]float64, tokens*k)
	h := make([]float64, k*k)
	for m := range tokens {
		row := x[m*k:][:k]
		common := r.NormFloat64()
		for j := range row {
			if j%50 != 7 { // else dead
				row[j] = common*float64(j%3) + r.NormFloat64()*(0.2+float64(j%7))
			}
		}
		for i, a := range row {
			for j, b := range row {
				h[i*k+j] += a * b
			}
		}
	}
	for _, c := range []struct {
		order   bool
		rows    int
		damp    float64
		product calibrate.MatMulT
	}{{false, 9, 0, nil}, {true, 9, 0.1, nil}, {true, stripRows + 5, 0, floatMatMulT}} {
		w := randomMatrix(c.rows, k, 3, gaussian)
		o := lut(64)
		o.MatMulT = c.product
		q, rep := gptq(t, w, factor(t, h, FactorOptions{ActOrder: c.order, Damp: c.damp}), o)
		rounded := tensor.NewMatrix(w.Rows, k)
		q.Decode(rounded, GridLUT.Arithmetic())
		var before, after, both, lost float64
		for m := range tokens {
			for n := range w.Rows {
				var a, b float64
				for j, v := range x[m*k:][:k] {
					a += v * float64(w.Row(n)[j])
					b += v * float64(rounded.Row(n)[j])
				}
				before, after, both, lost = before+a*a, after+b*b, both+a*b, lost+(a-b)*(a-b)
			}
		}
		wantSNR, wantCosine := 10*math.Log10(before/lost), both/math.Sqrt(before*after)
		tolerance := 1e-6
		if c.product != nil {
			tolerance = 1e-4 // FP32 sums; the loss is a difference of such
		}
		if !agree(rep.Signal, before, tolerance) || !agree(rep.OutputSNR(), wantSNR, tolerance) || !agree(rep.OutputCosine(), wantCosine, tolerance*1e-2) {
			t.Errorf("%+v: signal %g, SNR %g, cosine %.9f; of the outputs %g, %g, %.9f", c, rep.Signal, rep.OutputSNR(), rep.OutputCosine(), before, wantSNR, wantCosine)
		}
		l := rep.Layer()
		if l.OutputSNR == nil || !agree(*l.OutputSNR, wantSNR, 1e-3) || l.OutputCosine == nil || !agree(*l.OutputCosine, wantCosine, 1e-3) {
			t.Errorf("%+v: layer %+v", c, l)
		}
	}
}

// What has no outputs has no figures, and rounding to nearest knows of none.
func TestOutputsAbsent(t *testing.T) {
	w := randomMatrix(4, 64, 1, gaussian)
	_, dead := gptq(t, w, factor(t, make([]float64, 64*64), FactorOptions{}), lut(64))
	_, zero := gptq(t, tensor.NewMatrix(4, 64), factor(t, gramian(64, 100, 1), FactorOptions{}), lut(64))
	_, plain, err := QuantizeInt4(w, lut(64).Int4Options)
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]Layer{"dead inputs": dead.Layer(), "zero weight": zero.Layer(), "nearest": plain.Layer()} {
		if l.OutputSNR != nil || l.OutputCosine != nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestDigits4(t *testing.T) {
	for x, want := range map[float64]float64{0: 0, 0.99987654: 0.9999, 23.456789: 23.46, -1.23456: -1.235, 123456: 123500, 0.00012345678: 0.0001235} {
		if got := digits4(x); got == nil || *got != want {
			t.Errorf("%g: wanted %g", x, want)
		}
	}
	if digits4(math.Inf(1)) != nil || digits4(math.NaN()) != nil {
		t.Error("a number for what is none")
	}
}

// Columns of U are its own, zeros included where they reach below its diagonal.
func TestTransposeColumns(t *testing.T) {
	f := factor(t, gramian(192, 300, 7), FactorOptions{})
	for _, c := range []struct{ rows, from, to int }{{64, 64, 128}, {128, 64, 128}, {192, 130, 192}, {40, 0, 40}, {100, 64, 128}} {
		dst := make([]float32, c.rows*(c.to-c.from))
		for i := range dst {
			dst[i] = -1
		}
		transposeColumns(dst, f, c.rows, c.from, c.to)
		for i := c.from; i < c.to; i++ {
			for j := range c.rows {
				want := float32(0)
				if j <= i {
					want = float32(f.h[j*f.K+i])
				}
				if got := dst[(i-c.from)*c.rows+j]; got != want {
					t.Fatalf("%+v: U[%d, %d] is %g, wanted %g", c, j, i, got, want)
				}
			}
		}
	}
}
