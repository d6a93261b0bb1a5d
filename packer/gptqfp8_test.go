package packer

import (
	"errors"
	"math"
	"slices"
	"testing"

	"quantize/tensor"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func gptqFP8(t testing.TB, w tensor.Matrix, f *Factor, p Propagation) (*FP8Weight, *GPTQReport) {
	t.Helper()
	q, r, err := QuantizeGPTQFP8(w, f, p)
	if err != nil {
		t.Fatal(err)
	}
	return q, r
}

// Without correlations there is nothing to propagate.
func TestGPTQFP8WithoutCorrelationsIsRTN(t *testing.T) {
	t.Parallel()
	w := randomMatrix(stripRows+5, 96, 1, studentT5)
	h := make([]float64, w.Cols*w.Cols)
	for i := range w.Cols {
		h[i*w.Cols+i] = 1
	}
	want, report, err := QuantizeFP8(w)
	if err != nil {
		t.Fatal(err)
	}
	got, r := gptqFP8(t, w, factor(t, h, FactorOptions{}), Propagation{})
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Rows != w.Rows || r.Groups != 0 || r.ClippedCodes != 0 || !agree(r.SSE, report.SSE, 1e-12) ||
		!agree(r.Energy, report.Energy, 1e-12) || !agree(r.Rounded, report.Rounded, 1e-12) || !agree(r.Loss, r.SSE, 1e-9) {
		t.Errorf("%+v, of RTN %+v", *r, *report)
	}
}

// Scales are those of the row as it was, and codes those of eliminating one input
// after the other.
func TestGPTQFP8IsOBQ(t *testing.T) {
	t.Parallel()
	for _, k := range []int{7, 96, 130} {
		w := randomMatrix(5, k, uint64(k), studentT5)
		h := gramian(k, 2*k, uint64(k)+1)
		rtn, _, err := QuantizeFP8(w)
		if err != nil {
			t.Fatal(err)
		}
		nearest := func(n, _ int, v float64) (code int8, product float64) {
			best := math.Inf(1)
			for c := range 256 {
				if c&0x7F == 0x7F || c == 0x80 { // NaN, and zero once
					continue
				}
				if p := float64(tensor.E4M3Value(uint8(c)) * rtn.Scales[n]); math.Abs(v-p) < best {
					best, code, product = math.Abs(v-p), int8(uint8(c)), p
				}
			}
			return code, product
		}
		for _, order := range []bool{false, true} {
			f := factor(t, h, FactorOptions{ActOrder: order})
			q, _ := gptqFP8(t, w, f, Propagation{BlockSize: 32})
			codes := make([][]int8, w.Rows)
			for n := range codes {
				for _, c := range q.Codes[n*k:][:k] {
					if c == 0x80 {
						c = 0
					}
					codes[n] = append(codes[n], int8(c))
				}
			}
			if d := cmp.Diff(obq(w, h, f.order, 0.01, nearest), codes); d != "" {
				t.Errorf("K = %d, act-order %v: %s", k, order, d)
			}
			if !slices.Equal(rtn.Scales, q.Scales) {
				t.Error("the scales moved")
			}
			if slices.Equal(rtn.Codes, q.Codes) {
				t.Error("nothing was propagated")
			}
		}
	}
}

// Loss is the formula, and less than that of the nearest codes where there are enough
// inputs to make up for one: of a few, those that follow may lose more. A fast product
// changes it little.
func TestGPTQFP8Loss(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(8, 160).Draw(t, "k")
		seed := rapid.Uint64().Draw(t, "seed")
		h := gramian(k, 3*k, seed)
		w := randomMatrix(24, k, seed+1, studentT5)
		f, err := FactorHessian(hessianOf(h), FactorOptions{ActOrder: rapid.Bool().Draw(t, "act-order")})
		if err != nil {
			t.Fatal(err)
		}
		q, r, err := QuantizeGPTQFP8(w, f, Propagation{})
		if err != nil {
			t.Fatal(err)
		}
		rtn, _, err := QuantizeFP8(w)
		if err != nil {
			t.Fatal(err)
		}
		if want := outputError(w, q, Exact, h); !agree(r.Loss, want, 1e-8) || k >= 32 && r.Loss >= r.LossRTN {
			t.Fatalf("loss %g, by the formula %g, of RTN %g", r.Loss, want, r.LossRTN)
		}
		if want := outputError(w, rtn, Exact, h); !agree(r.LossRTN, want, 1e-8) {
			t.Fatalf("loss of RTN %g, by the formula %g", r.LossRTN, want)
		}
		if want := distance(w, q, Exact, nil); !agree(r.SSE, want, 1e-9) {
			t.Fatalf("SSE %g, decoded %g", r.SSE, want)
		}
		_, fast, err := QuantizeGPTQFP8(w, f, Propagation{MatMulT: floatMatMulT, BlockSize: 16})
		if err != nil {
			t.Fatal(err)
		}
		if !agree(fast.Loss, r.Loss, 0.05) {
			t.Fatalf("loss %g with an FP32 product, %g in FP64", fast.Loss, r.Loss)
		}
	})
}

// The third input is a quarter of the sum of the two before it, so that it makes up
// for four times their errors, as far as the scale of its row lets it.
func TestGPTQFP8Clips(t *testing.T) {
	t.Parallel()
	h := []float64{
		1, 0, 0.25, 0,
		0, 1, 0.25, 0,
		0.25, 0.25, 0.125 + 1e-6, 0,
		0, 0, 0, 0,
	}
	for third, clipped := range map[float32]int{448: 1, -448: 0, 224: 0} {
		// 335 becomes 320, for the products above 256 are 32 apart.
		w := tensor.MatrixOf(1, 4, []float32{335, 335, third, 448})
		q, r := gptqFP8(t, w, factor(t, h, FactorOptions{Damp: 1e-9}), Propagation{})
		if q.Scales[0] != 1 || q.Codes[0] != tensor.E4M3(320) || r.ClippedCodes != clipped {
			t.Errorf("third %v: scale %v, codes %#x, %d clipped", third, q.Scales[0], q.Codes, r.ClippedCodes)
		}
		if want := tensor.E4M3(third + 4*15); q.Codes[2] != want {
			t.Errorf("third %v: code %#x, wanted %#x", third, q.Codes[2], want)
		}
		if r.DeadColumns != 1 || q.Codes[3] != 0 {
			t.Errorf("%d dead inputs, with code %#x", r.DeadColumns, q.Codes[3])
		}
	}
}

func TestGPTQFP8Refuses(t *testing.T) {
	t.Parallel()
	f := factor(t, gramian(64, 100, 15), FactorOptions{})
	good := randomMatrix(2, 64, 16, gaussian)
	bad := copyOf(good)
	bad.Row(1)[3] = float32(math.Inf(1))
	for name, c := range map[string]struct {
		w    tensor.Matrix
		p    Propagation
		want error
	}{
		"infinity":    {w: bad, want: ErrInvalid},
		"empty":       {w: tensor.NewMatrix(0, 64), want: ErrInvalid},
		"other K":     {w: randomMatrix(2, 32, 1, gaussian), want: ErrOption},
		"block of -1": {w: good, p: Propagation{BlockSize: -1}, want: ErrOption},
	} {
		if _, _, err := QuantizeGPTQFP8(c.w, f, c.p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
