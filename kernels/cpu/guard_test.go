package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"quantize/tensor"
)

// guard is a NaN that no arithmetic produces.
var guard = math.Float32frombits(0x7fc5a5a5)

// guarded is a matrix between guard words, with guards in the gap between rows
// and, until it is filled, inside.
type guarded struct {
	tensor.Matrix
	all []float32
	was []uint32
}

const margin = 21 // off every vector and cache line

func newGuarded(rows, cols, gap int) *guarded {
	stride := cols + gap
	all := make([]float32, 2*margin+rows*stride)
	for i := range all {
		all[i] = guard
	}
	return &guarded{tensor.Matrix{Rows: rows, Cols: cols, Stride: stride, Data: all[margin : margin+rows*stride]}, all, nil}
}

// filledWith fills the elements, not the guards, and remembers them.
func (g *guarded) filledWith(r *rand.Rand, scale float64) *guarded {
	for i := range g.Rows {
		for j := range g.Row(i) {
			g.Row(i)[j] = float32(scale * r.NormFloat64())
		}
	}
	g.was = bitsOf(g.all)
	return g
}

func bitsOf(x []float32) []uint32 {
	bits := make([]uint32, len(x))
	for i, v := range x {
		bits[i] = math.Float32bits(v)
	}
	return bits
}

// unchanged fails if an input was written to.
func (g *guarded) unchanged(t *testing.T, name string) {
	t.Helper()
	if !slices.Equal(g.was, bitsOf(g.all)) {
		t.Fatalf("%s was changed", name)
	}
}

// contained fails if anything outside the elements was written.
func (g *guarded) contained(t *testing.T) {
	t.Helper()
	for i, v := range g.all {
		stride := max(1, g.Stride)
		row, col := (i-margin)/stride, (i-margin)%stride
		if i >= margin && row < g.Rows && col < g.Cols {
			continue
		}
		if math.Float32bits(v) != math.Float32bits(guard) {
			t.Fatalf("word %d, outside the %dx%d matrix, was written", i-margin, g.Rows, g.Cols)
		}
	}
}

// everyISA runs test for each instruction set of this processor.
func everyISA(t *testing.T, test func(t *testing.T, isa ISA)) {
	for _, isa := range Available() {
		t.Run(isa.String(), func(t *testing.T) { test(t, isa) })
	}
}
