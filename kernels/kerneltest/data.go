package kerneltest

import (
	"math"
	"math/rand/v2"
)

// kind is a way to fill rows with numbers that kernels get wrong.
type kind struct {
	name string
	fill func(r *rand.Rand, row []float32)
}

// kinds are the data of activations, queries, keys and values.
var kinds = []kind{
	{"normal", normal},
	{"zeros", func(_ *rand.Rand, row []float32) { clear(row) }},
	{"biased", func(r *rand.Rand, row []float32) { // no cancellation: sums grow with K
		for i := range row {
			row[i] = float32(3 + r.NormFloat64())
		}
	}},
	{"one huge outlier", func(r *rand.Rand, row []float32) {
		normal(r, row)
		row[r.IntN(len(row))] = 30000
	}},
	{"subnormal", func(r *rand.Rand, row []float32) {
		for i := range row {
			row[i] = math.Float32frombits(uint32(r.IntN(1<<23)) | uint32(r.IntN(2))<<31)
		}
	}},
	{"near the token floor", func(r *rand.Rand, row []float32) { // maxima around 1/512
		for i := range row {
			row[i] = float32(r.NormFloat64() / 1024)
		}
	}},
	{"saturated", func(r *rand.Rand, row []float32) { // all at the token's maximum
		for i := range row {
			row[i] = float32(1-2*r.IntN(2)) * 0x1.23456p+60
		}
	}},
	{"many magnitudes", func(r *rand.Rand, row []float32) { // FP8 subnormals and ties
		for i := range row {
			row[i] = float32(math.Ldexp(float64(r.IntN(65)-32)/16, -r.IntN(24)))
		}
	}},
	{"one NaN", func(r *rand.Rand, row []float32) {
		normal(r, row)
		if r.IntN(2) == 0 {
			row[r.IntN(len(row))] = float32(math.NaN())
		}
	}},
	{"one infinity", func(r *rand.Rand, row []float32) {
		normal(r, row)
		if r.IntN(2) == 0 {
			row[r.IntN(len(row))] = float32(math.Inf(1 - 2*r.IntN(2)))
		}
	}},
}

func normal(r *rand.Rand, row []float32) {
	for i := range row {
		row[i] = float32(r.NormFloat64())
	}
}

// seeded returns the generator of one case; its number is printed with every
// failure as part of the case's name.
func seeded(number int) *rand.Rand { return rand.New(rand.NewPCG(1, uint64(number))) }

func filled(r *rand.Rand, rows, cols, pad int, k kind) *operand {
	return newOperand(rows, cols, pad).fill(func(row []float32) { k.fill(r, row) })
}
