package kerneltest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

// int4Shapes are (M, N, K, group): K smaller than any usual group, one group,
// several, N and M at the edges of tiles.
var int4Shapes = [][4]int{
	{1, 1, 8, 8},
	{3, 5, 16, 8},
	{1, 17, 32, 32},
	{2, 16, 128, 128},
	{7, 33, 192, 64},
	{13, 48, 384, 128},
	{65, 31, 256, 128},
	{5, 7, 576, 64},
	{2, 3, 4864, 128},
}

// scaleKinds fill the group scales of one row.
var scaleKinds = []kind{
	{"usual", func(r *rand.Rand, row []float32) {
		for i := range row {
			row[i] = float32(0.01 * math.Exp(0.3*r.NormFloat64()))
		}
	}},
	{"pinned", func(r *rand.Rand, row []float32) { // what packer writes: s8·chan, chan of 4 bits, a group at 448
		for i := range row {
			row[i] = float32(8+r.IntN(8)) * 0x1p-4 * 448 * 0x1.8p-12
		}
		row[r.IntN(len(row))] = 448 * 0x1.8p-12
	}},
	{"below the floor", func(r *rand.Rand, row []float32) {
		for i := range row {
			row[i] = float32(r.Float64() / 1024)
		}
	}},
	{"zeros", func(_ *rand.Rand, row []float32) { clear(row) }},
	{"wide", func(r *rand.Rand, row []float32) { // s8 down to subnormals, s8/8 below them
		for i := range row {
			row[i] = float32(math.Ldexp(1+r.Float64(), -r.IntN(22)))
		}
	}},
	{"large", func(r *rand.Rand, row []float32) {
		for i := range row {
			row[i] = float32(math.Ldexp(1+r.Float64(), 40+r.IntN(4)))
		}
	}},
}

func int4Weight(r *rand.Rand, n, k, group int, scales kind) *packer.Int4Weight {
	w := &packer.Int4Weight{N: n, K: k, GroupSize: group, Codes: make([]uint32, n*k/8), Scales: make([]uint16, n*k/group), FP8Activations: true}
	for i := range w.Codes {
		w.Codes[i] = r.Uint32()
	}
	row := make([]float32, k/group)
	for i := range n {
		scales.fill(r, row)
		for g, s := range row {
			w.Scales[i*len(row)+g] = uint16(math.Float32bits(s) >> 16)
		}
	}
	return w
}

func runInt4(t *testing.T, b kernels.Backend) {
	for _, a := range []packer.Arithmetic{packer.LUT, packer.Exact, packer.WeightOnly} {
		t.Run(fmt.Sprintf("arithmetic %d", a), func(t *testing.T) {
			var tally Tally
			number, limit := 0, nmseProduct
			for _, s := range int4Shapes {
				for _, scales := range scaleKinds {
					for _, k := range kinds {
						if number++; number%3 != 0 && k.name != "normal" && scales.name != "usual" {
							continue // every third of the crossed cases
						}
						r := seeded(number)
						w := int4Weight(r, s[1], s[2], s[3], scales)
						if a == packer.WeightOnly && number%2 == 0 {
							w.FP8Activations = false
						}
						bias := vector(r, s[1])
						if number%2 == 0 {
							bias = nil
						}
						name := fmt.Sprintf("%dx%dx%d group %d, %s scales, %s", s[0], s[1], s[2], s[3], scales.name, k.name)
						linear, err := b.QuantLinear(w, a, bias)
						if err != nil {
							t.Fatalf("%s: %v", name, err)
						}
						want := wantInt4(w, a, bias)
						if c, ok := b.(Coarse); ok {
							want.Sum, want.Store = c.Int4Error(w, a)
							limit = max(limit, want.Store*want.Store/4) // a rounding is a third of its largest, squared, and less: mantissas spread
						}
						check(t, &tally, name, linear, want, filled(r, s[0], s[2], number%5, k), quantRoundings, number%4)
					}
				}
			}
			tally.finish(t, limit)
		})
	}
}

func fp8Weight(r *rand.Rand, n, k int, narrow bool) *packer.FP8Weight {
	w := &packer.FP8Weight{N: n, K: k, Codes: make([]uint8, n*k), Scales: make([]float32, n)}
	for i := range w.Codes {
		c := uint8(r.Uint32())
		if c&0x7F == 0x7F || narrow {
			c &^= 0x41 // not NaN; narrow: no large values
		}
		w.Codes[i] = c
	}
	for i := range w.Scales {
		w.Scales[i] = float32(math.Exp(r.NormFloat64() - 6))
	}
	return w
}

func runFP8(t *testing.T, b kernels.Backend) {
	var tally Tally
	number := 0
	for _, s := range [][3]int{{1, 1, 1}, {1, 3, 5}, {2, 17, 129}, {7, 33, 64}, {65, 31, 255}, {3, 5, 3000}} {
		for _, k := range kinds {
			for _, a := range []packer.Arithmetic{packer.LUT, packer.Exact, packer.WeightOnly} {
				number++
				r := seeded(number)
				w := fp8Weight(r, s[1], s[2], number%2 == 0)
				bias := vector(r, s[1])
				want := &Want{N: w.N, K: w.K, Bias: bias, Token: a != packer.WeightOnly}
				for _, c := range w.Codes {
					want.W = append(want.W, float64(tensor.E4M3Value(c)))
				}
				for _, v := range w.Scales {
					want.Row = append(want.Row, float64(v))
				}
				name := fmt.Sprintf("%dx%dx%d arithmetic %d, %s", s[0], s[1], s[2], a, k.name)
				linear, err := b.QuantLinear(w, a, bias)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				check(t, &tally, name, linear, want, filled(r, s[0], s[2], number%5, k), quantRoundings, number%4)
			}
		}
	}
	tally.finish(t, nmseProduct)
}

// runToken makes the activation codes visible: with the identity as weight, y
// is a·x8, one product, and must be equal to the bit.
func runToken(t *testing.T, b kernels.Backend) {
	const k = 264
	w := &packer.FP8Weight{N: k, K: k, Codes: make([]uint8, k*k), Scales: make([]float32, k)}
	for i := range k {
		w.Codes[i*k+i] = 0x38 // 1.0
		w.Scales[i] = 1
	}
	linear, err := b.QuantLinear(w, packer.Exact, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := [][]float32{make([]float32, k), make([]float32, k), make([]float32, k)}
	for i := range 126 { // a = 1: every value, every midpoint, and beside it
		v, next := float64(tensor.E4M3Value(uint8(i))), float64(tensor.E4M3Value(uint8(i+1)))
		middle := float32((v + next) / 2)
		rows[0][2*i], rows[0][2*i+1] = float32(v), -middle
		rows[1][2*i], rows[1][2*i+1] = math.Nextafter32(middle, 0), math.Nextafter32(-middle, -448)
	}
	rows[0][k-1], rows[1][k-1] = 448, -448
	for _, a := range []float32{3, 5, 7, 11} { // x/a is a midpoint, x·(1/a) only nearly
		row := make([]float32, k)
		for j, v := range rows[0] {
			row[j] = a * v
		}
		rows = append(rows, row)
	}
	r := seeded(2)
	for _, kind := range kinds {
		if kind.name == "one NaN" || kind.name == "one infinity" {
			continue
		}
		for range 8 {
			row := make([]float32, k)
			kind.fill(r, row)
			rows = append(rows, row)
		}
	}
	x := newOperand(len(rows), k, 3)
	for i, row := range rows {
		copy(x.Row(i), row)
	}
	dst := newOperand(len(rows), k, 1)
	linear.Forward(dst.Matrix, x.freeze().Matrix)
	for i := range rows {
		a, values := tokenOf(x.Row(i))
		for j, got := range dst.Row(i) {
			if want := a * float32(values[j]); got != want {
				t.Fatalf("row %d, element %d: %v is %v after rounding, want %v (scale %v)", i, j, x.Row(i)[j], got, want, a)
			}
		}
	}
}

// runRefused gives a backend what it must refuse with ErrUnsupported.
func runRefused(t *testing.T, b kernels.Backend) {
	good := func() *packer.Int4Weight { return int4Weight(seeded(3), 2, 64, 32, scaleKinds[0]) }
	for name, c := range map[string]struct {
		edit func(*packer.Int4Weight)
		a    packer.Arithmetic
		bias []float32
	}{
		"no arithmetic":         {func(*packer.Int4Weight) {}, 0, nil},
		"unknown arithmetic":    {func(*packer.Int4Weight) {}, 9, nil},
		"bias too short":        {func(*packer.Int4Weight) {}, packer.LUT, []float32{1}},
		"group does not divide": {func(w *packer.Int4Weight) { w.GroupSize = 48 }, packer.LUT, nil},
		"no group size":         {func(w *packer.Int4Weight) { w.GroupSize = 0 }, packer.LUT, nil},
		"no rows":               {func(w *packer.Int4Weight) { w.N, w.Codes, w.Scales = 0, nil, nil }, packer.LUT, nil},
		"K not in whole words":  {func(w *packer.Int4Weight) { w.K, w.GroupSize = 60, 60 }, packer.LUT, nil},
		"codes missing":         {func(w *packer.Int4Weight) { w.Codes = w.Codes[1:] }, packer.LUT, nil},
		"scales missing":        {func(w *packer.Int4Weight) { w.Scales = w.Scales[1:] }, packer.LUT, nil},
	} {
		w := good()
		c.edit(w)
		if _, err := b.QuantLinear(w, c.a, c.bias); !errors.Is(err, kernels.ErrUnsupported) {
			t.Errorf("%s: error %v, want ErrUnsupported", name, err)
		}
	}
	if _, err := b.QuantLinear(nil, packer.LUT, nil); !errors.Is(err, kernels.ErrUnsupported) {
		t.Errorf("nil weight: error %v, want ErrUnsupported", err)
	}
	if _, err := b.QuantLinear(&packer.FP8Weight{N: 2, K: 2, Codes: make([]uint8, 3), Scales: make([]float32, 2)}, packer.LUT, nil); !errors.Is(err, kernels.ErrUnsupported) {
		t.Errorf("FP8 codes missing: error %v, want ErrUnsupported", err)
	}
}
