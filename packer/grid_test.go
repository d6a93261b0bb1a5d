package packer

import (
	"math"
	"testing"

	"quantize/tensor"
)

// e4m3 is the value of the nearest E4M3 number, saturating, in the words of the
// format's definition.
func e4m3(x float64) float64 {
	if x == 0 {
		return 0
	}
	_, exp := math.Frexp(x)
	ulp := math.Ldexp(1, max(exp-1, -6)-3)
	v := math.RoundToEven(x/ulp) * ulp
	return max(-448, min(448, v))
}

// The table of a significand gives, for every table byte and weight, a product
// of the arithmetic that no other product is nearer than.
func TestCodeTableIsNearest(t *testing.T) {
	for _, g := range []Grid{GridLUT, GridExact, GridWeightOnly} {
		for b := uint8(lifted); b <= pinned; b++ {
			const ch = 1.25
			s8 := 8 * float64(tensor.E4M3Value(b))
			products := Products(g.Arithmetic(), tensor.BF16Bits(float32(s8*ch)), tensor.E4M3(float32(s8)), ch)
			unit := float64(g.halfUlp(b, ch))
			table := &codeTables[g-1][significand(b)]
			for i := range 2 * span {
				y := float64(i - span)
				for _, frac := range []float64{0, 0.25, 0.999} {
					x := y + math.Copysign(frac, y)
					if i == span {
						x = frac
					}
					got := float64(products[table.code[i]+8])
					if want := float64(table.value[i]) * unit; got != want {
						t.Fatalf("%v byte %#x entry %d: code %d is %g, table says %g", g, b, i, table.code[i], got, want)
					}
					for q := g.lowest(); q <= 7; q++ {
						if d := math.Abs(float64(products[q+8]) - x*unit); d < math.Abs(got-x*unit)*(1-1e-12) {
							t.Fatalf("%v byte %#x weight %g: code %d at %g, but code %d is at %g", g, b, x*unit, table.code[i], math.Abs(got-x*unit), q, d)
						}
					}
				}
			}
		}
	}
}

// Products equal the formulas of the runtimes in float64.
func TestProductsAreTheRuntimesFormulas(t *testing.T) {
	const ch = 0.0013732910156250 // 4 significant bits
	for code := 1; code < 0x7f; code++ {
		s8 := float64(tensor.E4M3Value(uint8(code)))
		s := tensor.BF16Bits(float32(s8 * ch))
		lut := Products(LUT, s, uint8(code), ch)
		exact := Products(Exact, s, uint8(code), ch)
		only := Products(WeightOnly, s, uint8(code), ch)
		for q := -8; q <= 7; q++ {
			if want := e4m3(float64(q)*e4m3(s8/8)) * 8 * ch; float64(lut[q+8]) != float64(float32(want)) {
				t.Errorf("lut %d x %g: %g, want %g", q, s8, lut[q+8], want)
			}
			if want := float64(q) * 8 * e4m3(s8/8) * ch; math.Abs(float64(exact[q+8])-want) > math.Abs(want)*0x1p-24 {
				t.Errorf("exact %d x %g: %g, want %g", q, s8, exact[q+8], want)
			}
			if want := float32(q) * tensor.BF16Value(s); only[q+8] != want {
				t.Errorf("weight only %d x %g: %g, want %g", q, s8, only[q+8], want)
			}
		}
	}
}

func TestGridText(t *testing.T) {
	for _, g := range []Grid{GridLUT, GridExact, GridWeightOnly} {
		text, err := g.MarshalText()
		var back Grid
		if err != nil || back.UnmarshalText(text) != nil || back != g {
			t.Errorf("%v: %q, %v, back %v", g, text, err, back)
		}
	}
	var g Grid
	if err := g.UnmarshalText([]byte("LUT")); err == nil {
		t.Error("LUT accepted")
	}
	if _, err := g.MarshalText(); err == nil {
		t.Error("the unset grid has a name")
	}
}
