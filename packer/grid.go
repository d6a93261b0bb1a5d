package packer

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"quantize/tensor"
)

// Grid says which products the codes of a weight are chosen against.
type Grid uint8

const (
	// GridLUT takes codes -8..7 against e4m3(q*s8/8)*8*chan, the table that
	// vLLM's kernel multiplies.
	GridLUT Grid = iota + 1
	// GridExact takes codes -7..7 against q*s8*chan, which our GPU kernel
	// multiplies and transformers computes.
	GridExact
	// GridWeightOnly takes codes -8..7 against q*scale, which the kernels for
	// 16-bit activations multiply.
	GridWeightOnly
)

var gridNames = [...]string{GridLUT: "lut", GridExact: "exact", GridWeightOnly: "weight-only"}

func (g Grid) known() bool { return g >= GridLUT && g <= GridWeightOnly }

// String returns "lut", "exact", "weight-only", or "unset".
func (g Grid) String() string {
	if !g.known() {
		return "unset"
	}
	return gridNames[g]
}

// MarshalText writes the name that the manifest keeps.
func (g Grid) MarshalText() ([]byte, error) {
	if !g.known() {
		return nil, fmt.Errorf("grid %d has no name", g)
	}
	return []byte(g.String()), nil
}

// UnmarshalText reads a name of [Grid.String].
func (g *Grid) UnmarshalText(text []byte) error {
	i := slices.Index(gridNames[GridLUT:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown grid %q (known: %s)", text, strings.Join(gridNames[GridLUT:], ", "))
	}
	*g = GridLUT + Grid(i)
	return nil
}

// Arithmetic returns the arithmetic whose products the grid holds.
func (g Grid) Arithmetic() Arithmetic {
	switch g {
	case GridExact:
		return Exact
	case GridWeightOnly:
		return WeightOnly
	default:
		return LUT
	}
}

// lowest returns the smallest code of the grid.
func (g Grid) lowest() int {
	if g == GridExact {
		return -7
	}
	return -8
}

// A group scale s8 is 8*E4M3Value(t) for a table byte t: the byte that the
// kernel keeps, e4m3(s8/8). Taking s8 from these values only, 1 <= t <= pinned,
// means that the division by 8 never rounds (below s8 = 2^-3 it would, E4M3
// being subnormal there) and that s8 is never below 2^-6.
//
//	E4M3Value(t) = significand(t) * 2^(exponent(t)-9)
const (
	lifted = 1    // s8 = 2^-6, the smallest
	pinned = 0x66 // s8 = 448, the largest
)

func significand(t uint8) int {
	if t < 8 {
		return int(t)
	}
	return 8 + int(t&7)
}

func exponent(t uint8) int { return max(int(t>>3), 1) - 1 }

// halfUlp is half a unit in the last place of E4M3Value(t)*8*chan, the distance
// in which a codeTable counts. A weight-only kernel multiplies the stored BF16
// scale instead, which differs where chan is at its floor.
func (g Grid) halfUlp(t uint8, ch float32) float32 {
	if g == GridWeightOnly {
		stored := tensor.BF16Value(tensor.BF16Bits(8 * tensor.E4M3Value(t) * ch))
		return stored / float32(2*significand(t))
	}
	return ch * float32(math.Ldexp(1, exponent(t)-9+3-1))
}

// nearestTable returns the table byte whose scale is nearest to ratio = s/chan.
func nearestTable(ratio float32) uint8 {
	t := tensor.E4M3(min(ratio, 448) / 8)
	return min(max(t, lifted), pinned)
}

// span is the reach of a codeTable in half-ulps. The largest product is
// 8*15 ulps; a weight may be twice as large before the index has to be clamped.
const span = 512

// codeTable finds the nearest product of one group in one step. Every product
// is an integer number of ulps (E4M3 rounding included), so every midpoint of
// two products is an integer number of half-ulps, and all weights whose
// magnitude lies between two consecutive half-ulps have the same nearest code.
// Entry span+i serves i <= w/halfUlp < i+1 (mirrored for negative w: the
// quotient is truncated). At an exact midpoint the code farther from zero wins.
type codeTable struct {
	value [2 * span]float32 // the nearest product, in half-ulps
	code  [2 * span]int8    // its code
}

// codeTables is indexed by grid-1 and by the significand of the table byte:
// groups that differ by a power of two share their thresholds.
var codeTables = buildCodeTables()

func buildCodeTables() *[GridWeightOnly][16]codeTable {
	var all [GridWeightOnly][16]codeTable
	for g := GridLUT; g.known(); g++ {
		for m := 1; m < 16; m++ {
			all[g-1][m].build(g, m)
		}
	}
	return &all
}

func (c *codeTable) build(g Grid, m int) {
	for i := range c.value {
		at := 2*(i-span) + 1 // middle of the entry's interval, in quarter-ulps
		if i < span {
			at = 2*(i-span) - 1
		}
		if i == span {
			at = 0 // truncation sends both signs here; the nearest product is 0
		}
		best := math.MaxInt
		for q := g.lowest(); q <= 7; q++ {
			v := product(g, q, m)
			if d := abs(4*v - at); d < best {
				best = d
				c.value[i], c.code[i] = float32(2*v), int8(q)
			}
		}
	}
}

// product returns q*m in ulps, rounded to four significant bits, half to even,
// where the grid rounds its products to E4M3.
func product(g Grid, q, m int) int {
	v := q * m
	if g != GridLUT {
		return v // eight bits: the BF16 scale of a weight-only kernel does not round them either
	}
	ulp := 1
	for abs(v) >= 16*ulp {
		ulp *= 2
	}
	return int(math.RoundToEven(float64(v)/float64(ulp))) * ulp
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}
