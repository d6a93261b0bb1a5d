package tensor

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/x448/float16"
	"pgregory.net/rapid"
)

// format is one narrow float type for the tests that hold for all of them.
type format struct {
	name     string
	codes    int // number of bit patterns
	mant     int // mantissa bits
	largest  float64
	saturate bool // overflow gives largest, not infinity
	encode   func(float32) uint16
	decode   func(uint16) float32
}

var formats = []format{
	{"BF16", 1 << 16, 7, 0x1.FEp127, false, BF16Bits, BF16Value},
	{"F16", 1 << 16, 10, 65504, false, F16Bits, F16Value},
	{"E4M3", 1 << 8, 3, 448, true, func(x float32) uint16 { return uint16(E4M3(x)) }, func(b uint16) float32 { return E4M3Value(uint8(b)) }},
	{"E5M2", 1 << 8, 2, 57344, true, func(x float32) uint16 { return uint16(E5M2(x)) }, func(b uint16) float32 { return E5M2Value(uint8(b)) }},
}

func (f format) sign() uint16    { return uint16(f.codes / 2) }
func (f format) maxCode() uint16 { return f.encode(float32(f.largest)) }
func isNaN(x float32) bool       { return x != x }
func isInf(x float32) bool       { return math.IsInf(float64(x), 0) }
func next(x, to float32) float32 { return math.Nextafter32(x, to) }
func infinity(sign int) float32  { return float32(math.Inf(sign)) }
func eachFormat(t *testing.T, test func(t *testing.T, f format)) {
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

func TestEveryCodeRoundTrips(t *testing.T) {
	t.Parallel()
	eachFormat(t, func(t *testing.T, f format) {
		for i := range f.codes {
			b := uint16(i)
			x := f.decode(b)
			got := f.encode(x)
			switch {
			case isNaN(x):
				if !isNaN(f.decode(got)) || got&f.sign() != b&f.sign() {
					t.Errorf("NaN %#x encodes to %#x", b, got)
				}
			case isInf(x) && f.saturate:
				if want := b&f.sign() | f.maxCode(); got != want {
					t.Errorf("infinity %#x encodes to %#x, want %#x", b, got, want)
				}
			case got != b:
				t.Errorf("%#x = %g encodes to %#x", b, x, got)
			}
		}
	})
}

// The value of every code, from the definition of the format in exact arithmetic.
func TestEveryCodeHasItsValue(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		format
		bias     int
		specials bool // the largest exponent holds infinity and NaN
	}{{formats[0], 127, true}, {formats[1], 15, true}, {formats[2], 7, false}, {formats[3], 15, true}} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			top := f.codes/2>>f.mant - 1
			for i := range f.codes {
				got := f.decode(uint16(i))
				a := i & (f.codes/2 - 1)
				e, m := a>>f.mant, a&(1<<f.mant-1)
				var want float64
				switch {
				case f.specials && e == top && m == 0:
					want = math.Inf(1)
				case f.specials && e == top, !f.specials && a == f.codes/2-1:
					if !isNaN(got) {
						t.Errorf("%#x: got %g, want NaN", i, got)
					}
					continue
				case e == 0:
					want = math.Ldexp(float64(m), 1-f.bias-f.mant)
				default:
					want = math.Ldexp(float64(m+1<<f.mant), e-f.bias-f.mant)
				}
				if i != a {
					want = -want
				}
				if float64(got) != want || math.Signbit(float64(got)) != (i != a) {
					t.Errorf("%#x: got %g, want %g", i, got, want)
				}
			}
		})
	}
}

// Between two neighbours: the midpoint goes to the even code, the floats beside
// it to the nearer one. The codes of positive numbers are in order of value.
func TestMidpointsGoToEven(t *testing.T) {
	t.Parallel()
	eachFormat(t, func(t *testing.T, f format) {
		for b := uint16(0); b < f.maxCode(); b++ {
			lo, hi := f.decode(b), f.decode(b+1)
			mid := float32((float64(lo) + float64(hi)) / 2)
			if 2*float64(mid) != float64(lo)+float64(hi) {
				t.Fatalf("the midpoint of %g and %g is not exact", lo, hi)
			}
			for _, c := range []struct {
				x    float32
				want uint16
			}{{mid, b + b&1}, {next(mid, 0), b}, {next(mid, hi), b + 1}} {
				if got := f.encode(c.x); got != c.want {
					t.Errorf("%g between %#x and %#x: got %#x, want %#x", c.x, b, b+1, got, c.want)
				}
				if got, want := f.encode(-c.x), c.want|f.sign(); got != want {
					t.Errorf("%g: got %#x, want %#x", -c.x, got, want)
				}
			}
		}
	})
}

func TestOverflow(t *testing.T) {
	t.Parallel()
	eachFormat(t, func(t *testing.T, f format) {
		over := f.maxCode() + 1 // infinity in the IEEE formats
		if f.saturate {
			over = f.maxCode()
		}
		// Half a unit in the last place above the largest value is the tie with 2^n.
		tie := f.largest + (f.largest-float64(f.decode(f.maxCode()-1)))/2
		for _, c := range []struct {
			x    float32
			want uint16
		}{
			{next(float32(tie), 0), f.maxCode()},
			{float32(tie), over},
			{math.MaxFloat32, over},
			{infinity(1), over},
		} {
			if got := f.encode(c.x); got != c.want {
				t.Errorf("%g: got %#x, want %#x", c.x, got, c.want)
			}
			if got, want := f.encode(-c.x), c.want|f.sign(); got != want {
				t.Errorf("%g: got %#x, want %#x", -c.x, got, want)
			}
		}
	})
}

func TestGoldenCodes(t *testing.T) {
	t.Parallel()
	nan := float32(math.NaN())
	for _, c := range []struct {
		format string
		x      float32
		want   uint16
	}{
		{"E4M3", 1, 0x38},
		{"E4M3", -1, 0xB8},
		{"E4M3", 448, 0x7E},
		{"E4M3", 0x1p-6, 0x08},
		{"E4M3", 0x1p-9, 0x01},
		{"E4M3", 0, 0x00},
		{"E4M3", float32(math.Copysign(0, -1)), 0x80},
		{"E4M3", nan, 0x7F},
		{"E4M3", 0x1p-10, 0x00},
		{"E4M3", 0x1.8p-9, 0x02}, // ties: half and one and a half of the smallest subnormal
		{"E4M3", 464, 0x7E},
		{"E4M3", 465, 0x7E},
		{"E4M3", -1e30, 0xFE},
		{"E4M3", math.SmallestNonzeroFloat32, 0x00},
		{"E5M2", 1, 0x3C},
		{"E5M2", 57344, 0x7B},
		{"E5M2", 61440, 0x7B},
		{"E5M2", 0x1p-16, 0x01},
		{"E5M2", 0x1p-17, 0x00},
		{"E5M2", nan, 0x7F},
		{"BF16", 1, 0x3F80},
		{"BF16", 1 + 0x1p-8, 0x3F80},
		{"BF16", 1 + 0x3p-8, 0x3F82},
		{"BF16", math.Float32frombits(0x7F800001), 0x7FC0},
		{"F16", 1, 0x3C00},
		{"F16", 65519.996, 0x7BFF},
		{"F16", 65520, 0x7C00},
		{"F16", 0x1p-25, 0x0000},
		{"F16", 0x1p-24, 0x0001},
	} {
		for _, f := range formats {
			if f.name != c.format {
				continue
			}
			if got := f.encode(c.x); got != c.want {
				t.Errorf("%s(%g) = %#x, want %#x", f.name, c.x, got, c.want)
			}
		}
	}
}

func TestF16AgreesWithX448(t *testing.T) {
	t.Parallel()
	for i := range 1 << 16 {
		if got, want := F16Value(uint16(i)), float16.Frombits(uint16(i)).Float32(); math.Float32bits(got) != math.Float32bits(want) && !isNaN(want) {
			t.Errorf("value of %#x: got %g, want %g", i, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.Uint32().Draw(t, "bits")
		x := math.Float32frombits(b)
		if got, want := F16Bits(x), float16.Fromfloat32(x).Bits(); got != want {
			t.Fatalf("F16Bits(%g, bits %#x) = %#x, want %#x", x, b, got, want)
		}
	})
}

// Any float goes to a code whose value no other code beats; big.Float has no
// rounding here. Encoding never decreases.
func TestEncodeIsNearestAndMonotone(t *testing.T) {
	t.Parallel()
	eachFormat(t, func(t *testing.T, f format) {
		rapid.Check(t, func(t *rapid.T) {
			x := math.Float32frombits(rapid.Uint32Range(0, 0x7F7FFFFF).Draw(t, "bits"))
			if float64(x) > f.largest {
				x = float32(f.largest)
			}
			b := f.encode(x)
			dist := func(b uint16) *big.Float {
				d := new(big.Float).SetPrec(600)
				d.Sub(big.NewFloat(float64(f.decode(b))), big.NewFloat(float64(x)))
				return d.Abs(d)
			}
			if b > 0 && dist(b-1).Cmp(dist(b)) < 0 || b < f.maxCode() && dist(b+1).Cmp(dist(b)) < 0 {
				t.Fatalf("%g: %#x is not the nearest code", x, b)
			}
			if y := next(x, infinity(1)); f.encode(y) < b {
				t.Fatalf("%g encodes to %#x, the next float to %#x", x, b, f.encode(y))
			}
		})
	})
}

func TestRoundE4M3IsTheValueOfTheCode(t *testing.T) {
	t.Parallel()
	same := func(x float32) error {
		got, want := RoundE4M3(x), E4M3Value(E4M3(x))
		if math.Float32bits(got) != math.Float32bits(want) && !(isNaN(got) && isNaN(want)) {
			return fmt.Errorf("RoundE4M3(%g) = %g, want %g", x, got, want)
		}
		return nil
	}
	// The upper 16 bits decide all but ties; both sides of each tie are covered.
	for i := range 1 << 16 {
		for _, low := range []uint32{0, 1, 0xFFFF} {
			if err := same(math.Float32frombits(uint32(i)<<16 | low)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
