package kerneltest

import (
	"fmt"
	"math"
	"math/bits"
	"testing"

	"quantize/smoothing"
	"quantize/tensor"
)

// rotator is the optional part of a backend that rotates activations at run time.
type rotator interface {
	Hadamard(h *smoothing.Hadamard) func(x tensor.Matrix)
}

// hadamardOrders has every kind of factor: powers of two below, at and above a
// vector's width, both of Paley's constructions alone and beside each of these,
// two Paley factors, orders beyond a cache block.
var hadamardOrders = []int{1, 2, 4, 8, 12, 16, 20, 24, 32, 36, 48, 64, 76, 128, 144, 224, 240, 288, 344, 448, 512, 576, 924, 1024}

// blockOrders have no Hadamard matrix: blocks on the diagonal.
var blockOrders = []int{14, 92, 856}

func runHadamard(t *testing.T, b rotator) {
	var all []*smoothing.Hadamard
	for i, n := range append(hadamardOrders, blockOrders...) {
		construct := smoothing.NewHadamard
		if i >= len(hadamardOrders) {
			construct = smoothing.BlockHadamard
		}
		h, err := construct(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
	var tally Tally
	number := 0
	for _, h := range all {
		rotate, signs := b.Hadamard(h), signsOf(h)
		for _, k := range kinds {
			if k.name == "one infinity" { // a fast transform meets inf - inf
				continue
			}
			number++
			if h.Order() > 256 && number%4 != 0 {
				continue
			}
			for _, rows := range []int{0, 1, 3} {
				name := fmt.Sprintf("%v, %d rows, %s", h, rows, k.name)
				x := filled(seeded(number), rows, h.Order(), number%3, k)
				want := hadamardOf(h, signs, x.Matrix)
				rotate(x.Matrix)
				x.contained(t, name)
				tally.compare(t, name, x, want)
			}
		}
	}
	tally.finish(t, nmseElement)

	defer func() {
		if recover() == nil {
			t.Error("a matrix of another width was accepted")
		}
	}()
	b.Hadamard(all[3])(tensor.NewMatrix(2, all[3].Order()+1))
}

// signsOf writes out H without its scale.
func signsOf(h *smoothing.Hadamard) []float64 {
	n := h.Order()
	signs := make([]float64, n*n)
	for i := range signs {
		signs[i] = float64(h.Sign(i/n, i%n))
	}
	return signs
}

// hadamardOf is Hx for each row x. A fast transform adds m numbers for a factor
// m and, at most 16 in a row, 4 for a factor of two, and never more than there
// are; the scale is rounded, multiplied and stored.
func hadamardOf(h *smoothing.Hadamard, signs []float64, x tensor.Matrix) *Result {
	const scaleRoundings = 3
	n, block := h.Order(), h.Order()/h.Blocks()
	depth := 0
	for _, f := range h.Factors() {
		if f&(f-1) == 0 {
			f = 4 * bits.TrailingZeros(uint(f))
		}
		depth += f
	}
	terms := float64(min(depth, block) + scaleRoundings)
	out := newResult(x.Rows, n)
	for m := range x.Rows {
		for i := range n {
			sum, magnitude := 0.0, 0.0
			for j := i / block * block; j < (i/block+1)*block; j++ {
				v := signs[i*n+j] * float64(x.Row(m)[j])
				sum += v
				magnitude += math.Abs(v)
			}
			root := math.Sqrt(float64(block))
			out.set(m, i, sum/root, terms*u*magnitude/root+tiny)
		}
	}
	return out
}
