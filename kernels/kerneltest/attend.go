package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"quantize/kernels"
	"quantize/model"
)

// attentions are head counts, head sizes and windows: grouped-query ratios 1,
// 3, 4 and 8, head sizes off the vector width.
var attentions = []model.Attention{
	{Heads: 2, KVHeads: 2, HeadDim: 64},
	{Heads: 3, KVHeads: 1, HeadDim: 64},
	{Heads: 8, KVHeads: 2, HeadDim: 32},
	{Heads: 8, KVHeads: 1, HeadDim: 16},
	{Heads: 2, KVHeads: 1, HeadDim: 128},
	{Heads: 2, KVHeads: 2, HeadDim: 80},
	{Heads: 1, KVHeads: 1, HeadDim: 5},
}

// lengths and windows lie at the edges of key blocks.
var (
	lengths = []int{0, 1, 2, 63, 64, 65, 127, 129, 257}
	windows = []int{1, 7, 64, 100, 1000}
)

func runAttend(t *testing.T, b kernels.Backend) {
	var tally Tally
	number := 0
	for i, a := range attentions {
		for _, m := range lengths {
			if i > 1 && m != 1 && m != 65 && m != 129 {
				continue // every length for two of the shapes, three for the others
			}
			number++
			attend(t, &tally, b, a, m, 0, "normal", number, normal, nil)
			if i != 0 || m < 2 {
				continue
			}
			for _, window := range windows {
				number++
				attend(t, &tally, b, a, m, window, "normal", number, normal, nil)
			}
		}
	}
	a := model.Attention{Heads: 4, KVHeads: 2, HeadDim: 32}
	for _, k := range kinds {
		if k.name == "saturated" || k.name == "one NaN" || k.name == "one infinity" {
			continue // scores out of FP32's range; NaN has its own cases
		}
		for _, m := range []int{1, 65, 130} {
			number++
			attend(t, &tally, b, a, m, 0, k.name, number, k.fill, nil)
		}
	}
	// One query dominates: exp(score - maximum) underflows everywhere else.
	number++
	attend(t, &tally, b, a, 130, 0, "one-hot", number, func(r *rand.Rand, row []float32) {
		for i := range row {
			row[i] = float32(20 * r.NormFloat64())
		}
	}, nil)
	tally.finish(t, nmseAttend)
	runAttendNaN(t, b)
}

// runAttendNaN puts a NaN into one operand at one token: it must reach every
// query that sees the token and, the attention being causal, no earlier one.
func runAttendNaN(t *testing.T, b kernels.Backend) {
	a := model.Attention{Heads: 2, KVHeads: 1, HeadDim: 16}
	for which := range 3 {
		for _, window := range []int{0, 20} {
			var tally Tally
			attend(t, &tally, b, a, 100, window, fmt.Sprintf("NaN in operand %d", which), 7,
				normal, func(q, k, v *operand) {
					target := []*operand{q, k, v}[which]
					target.Row(70)[3] = float32(math.NaN())
				})
		}
	}
}

func attend(t *testing.T, tally *Tally, b kernels.Backend, a model.Attention, m, window int, data string, number int,
	fill func(*rand.Rand, []float32), edit func(q, k, v *operand),
) {
	t.Helper()
	r := seeded(number)
	a.Window, a.Scale = window, float32(1/math.Sqrt(float64(a.HeadDim)))
	name := fmt.Sprintf("%d tokens, %d heads on %d, size %d, window %d, %s", m, a.Heads, a.KVHeads, a.HeadDim, window, data)
	some := kind{data, fill}
	q := filled(r, m, a.Heads*a.HeadDim, number%3, some)
	k := filled(r, m, a.KVHeads*a.HeadDim, number%2, some)
	v := filled(r, m, a.KVHeads*a.HeadDim, number%5, some)
	if edit != nil {
		edit(q, k, v)
		q.freeze()
		k.freeze()
		v.freeze()
	}
	dst := newOperand(m, a.Heads*a.HeadDim, number%4)
	b.Attend(dst.Matrix, q.Matrix, k.Matrix, v.Matrix, a)
	q.unchanged(t, name)
	k.unchanged(t, name)
	v.unchanged(t, name)
	dst.contained(t, name)
	tally.compare(t, name, dst, attendOf(q.Matrix, k.Matrix, v.Matrix, a))
}
