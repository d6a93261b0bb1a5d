package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"quantize/kernels"
	"quantize/model"
	"quantize/tensor"
)

// linearShapes are (M, N, K): one row, one column, one product, odd K, edges of
// vector widths and tiles, K beyond a cache block.
var linearShapes = [][3]int{
	{0, 8, 8},
	{1, 1, 1},
	{1, 3, 5},
	{1, 16, 64},
	{1, 1000, 3},
	{1000, 1, 3},
	{2, 7, 129},
	{3, 33, 127},
	{5, 17, 257},
	{6, 16, 64},
	{7, 31, 300},
	{12, 32, 16},
	{13, 49, 8},
	{14, 65, 1},
	{29, 48, 63},
	{65, 31, 65},
	{129, 66, 64},
	{64, 192, 96},
	{15, 130, 1031},
	{257, 9, 40},
	{4, 5, 2500},
}

func runLinear(t *testing.T, b kernels.Backend) {
	var tally Tally
	number := 0
	for _, s := range linearShapes {
		for _, k := range kinds {
			if number++; k.name != "normal" && s[0]*s[1]*s[2] > 100000 {
				continue
			}
			r := seeded(number)
			weight := newOperand(s[1], s[2], number%3).fill(func(row []float32) { normal(r, row) })
			bias := vector(r, s[1])
			if number%2 == 0 {
				bias = nil
			}
			want := &Want{N: s[1], K: s[2], Row: ones(s[1]), Bias: bias}
			for n := range s[1] {
				for _, v := range weight.Row(n) {
					want.W = append(want.W, float64(v))
				}
			}
			name := fmt.Sprintf("%dx%dx%d %s bias=%t", s[0], s[1], s[2], k.name, bias != nil)
			linear := b.Linear(weight.Matrix, bias)
			weight.unchanged(t, name)
			for i := range weight.all { // the linear has its own copy
				weight.all[i] = math.Float32frombits(guardBits)
			}
			x := filled(r, s[0], s[2], number%5, k)
			check(t, &tally, name, linear, want, x, linearRoundings, number%4)
		}
	}
	tally.finish(t, nmseProduct)
}

// check runs linear on x into a guarded output and compares it with want.
func check(t *testing.T, tally *Tally, name string, linear model.Linear, want *Want, x *operand, roundings, pad int) {
	t.Helper()
	if n, k := linear.Shape(); n != want.N || k != want.K {
		t.Fatalf("%s: shape (%d, %d), want (%d, %d)", name, n, k, want.N, want.K)
	}
	dst := newOperand(x.Rows, want.N, pad)
	linear.Forward(dst.Matrix, x.Matrix)
	x.unchanged(t, name)
	dst.contained(t, name)
	tally.compare(t, name, dst, want.forward(x.Matrix, roundings))
}

// runConcurrent demands that one linear used by several goroutines, and used
// again, gives the same bits.
func runConcurrent(t *testing.T, b kernels.Backend) {
	r := seeded(1)
	const m, n, k = 70, 45, 256
	full := b.Linear(filled(r, n, k, 0, kinds[0]).Matrix, vector(r, n))
	quant, err := b.QuantLinear(fp8Weight(r, n, k, false), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, linear := range []model.Linear{full, quant} {
		x := filled(r, m, k, 0, kinds[0])
		first := tensor.NewMatrix(m, n)
		linear.Forward(first, x.Matrix)
		var group sync.WaitGroup
		results := make([]tensor.Matrix, 8)
		for i := range results {
			results[i] = tensor.NewMatrix(m, n)
			group.Go(func() { linear.Forward(results[i], x.Matrix) })
		}
		group.Wait()
		for i, y := range results {
			for j, v := range y.Data {
				if math.Float32bits(v) != math.Float32bits(first.Data[j]) {
					t.Fatalf("run %d of %T differs at element %d: %v, first %v", i, linear, j, v, first.Data[j])
				}
			}
		}
	}
}

func vector(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	normal(r, v)
	return v
}

func ones(n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = 1
	}
	return v
}
