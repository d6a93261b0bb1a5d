package cpu

import (
	"math"
	"math/bits"

	"quantize/kernels"
	"quantize/tensor"
)

// minAttentionScale is the floor of a scale of queries, keys and values: a group of
// zeros has codes 0, not 0/0.
const minAttentionScale float32 = 0x1p-126

// quantize rounds and packs keys and values: means and the scales of values first, a task
// for the keys and one for the values of a head, then a task for each tile of both.
func (s *quantizedAttention) quantize(workers int, k, v tensor.Matrix) {
	a, tiles := s.a, (s.a.Keys+kernels.KeyTile-1)/kernels.KeyTile
	columns := func(x tensor.Matrix, n int) tensor.Matrix {
		b, g := n/a.KVHeads, n%a.KVHeads
		return x.RowRange(b*a.Keys, (b+1)*a.Keys).ColRange(g*a.HeadDim, (g+1)*a.HeadDim)
	}
	parallel(workers, 2*len(s.heads), func(_, task int) {
		h := &s.heads[task/2]
		if task%2 == 0 {
			columnMeans(h.keyMeans, h.sums[:a.HeadDim], columns(k, task/2), a.Format.SmoothK)
			return
		}
		values := columns(v, task/2)
		columnMeans(h.valueMeans, h.sums[a.HeadDim:], values, a.Format.SmoothV)
		h.scaleValues(values)
	})
	parallel(workers, len(s.heads)*tiles, func(_, task int) {
		n, from := task/tiles, task%tiles*kernels.KeyTile
		to := min(from+kernels.KeyTile, a.Keys)
		t := attentionTasks.Get().(*attentionTask)
		defer attentionTasks.Put(t)
		t.keys(s, &s.heads[n], from, columns(k, n).RowRange(from, to))
		t.values(&s.heads[n], from, columns(v, n).RowRange(from, to))
	})
}

// columnMeans writes the means of the columns of x, summed in float64 and rounded once,
// or zeros where they are not wanted or there are no rows.
func columnMeans(means []float32, sums []float64, x tensor.Matrix, wanted bool) {
	clear(means)
	if !wanted || x.Rows == 0 {
		return
	}
	clear(sums)
	for i := range x.Rows {
		for c, v := range x.Row(i) {
			sums[c] += float64(v)
		}
	}
	for c, sum := range sums {
		means[c] = float32(sum / float64(x.Rows))
	}
}

// scaleValues makes the scale of each channel of values.
func (h *quantizedHead) scaleValues(x tensor.Matrix) {
	top := h.valueScales
	clear(top)
	for j := range x.Rows {
		for c, v := range x.Row(j) {
			top[c] = reach(top[c], v-h.valueMeans[c])
		}
	}
	for c, t := range top {
		top[c] = scaleOf(t, tensor.MaxE4M3)
	}
}

// scaleOf is the scale of a group whose largest magnitude is top; NaN if that is not finite.
func scaleOf(top, largest float32) float32 {
	if !(top <= math.MaxFloat32) {
		return float32(math.NaN())
	}
	return max(top/largest, minAttentionScale)
}

// reach is the larger of a >= 0 and the magnitude of v; NaN is above all.
func reach(a, v float32) float32 {
	return larger(a, math.Float32frombits(math.Float32bits(v)&^(1<<31)))
}

// keys packs a tile of keys, from first.
func (t *attentionTask) keys(s *quantizedAttention, h *quantizedHead, first int, k tensor.Matrix) {
	d := k.Cols
	t.rows = grow(t.rows, k.Rows*d)
	for j := range k.Rows {
		row := t.rows[j*d : (j+1)*d]
		copy(row, k.Row(j))
		subtract(row, h.keyMeans)
	}
	if h.smooth.k > 0 {
		h.smooth.setRows(first, k.Rows, t.rows, d)
	}
	if n := bits.TrailingZeros(uint(d)); s.a.Format.Hadamard {
		t.turn(k.Rows, d, n-n/2)
	}
	t.group(k.Rows, func(j int) int { return s.a.Format.KeyGroup(j) }) // first is a multiple of a tile
	t.encode(s.a.Format.Mode, k.Rows, d, 1)
	h.keys.setRows(first, k.Rows, t.rows, d)
}

// values packs a tile of values, from first: one block of the packed weight.
func (t *attentionTask) values(h *quantizedHead, first int, v tensor.Matrix) {
	t.rows = grow(t.rows, 2*v.Cols)
	column, inverse := t.rows[:v.Cols], t.rows[v.Cols:]
	for c, s := range h.valueScales {
		inverse[c] = 1 / s
	}
	for j := range v.Rows {
		for c, x := range v.Row(j) {
			column[c] = 0
			if s := inverse[c]; s == s {
				column[c] = tensor.RoundE4M3((x - h.valueMeans[c]) * s)
			}
		}
		h.values.setColumn(first+j, column)
	}
}

// group says which tokens of t.rows share a scale.
func (t *attentionTask) group(tokens int, of func(n int) int) {
	for n := range tokens {
		t.groups[n] = uint8(of(n))
	}
}

// encode replaces the tokens of t.rows, channels elements each, by code·(δ·factor), δ
// by group. Like every backend it multiplies by fl(1/δ): a division gives other codes at
// ties (docs/numerics.md).
func (t *attentionTask) encode(mode kernels.AttentionMode, tokens, channels int, factor float32) {
	largest := largestCode(mode)
	clear(t.scales[:])
	for n := range tokens {
		top := t.scales[t.groups[n]]
		for _, v := range t.rows[n*channels : (n+1)*channels] {
			top = reach(top, v)
		}
		t.scales[t.groups[n]] = top
	}
	for n := range tokens {
		row := t.rows[n*channels : (n+1)*channels]
		s := scaleOf(t.scales[t.groups[n]], largest)
		switch inverse := 1 / s; {
		case s != s:
			for c := range row {
				row[c] = s
			}
		case mode == kernels.AttentionFP8:
			for c, v := range row {
				row[c] = tensor.RoundE4M3(v*inverse) * (s * factor)
			}
		default:
			for c, v := range row {
				row[c] = nearest(float32(v*inverse), largest) * (s * factor)
			}
		}
	}
}

func largestCode(mode kernels.AttentionMode) float32 {
	switch mode {
	case kernels.AttentionInt8:
		return 127
	case kernels.AttentionInt4:
		return 7
	default:
		return tensor.MaxE4M3
	}
}

// nearest is x rounded to an integer, to nearest even, and clamped: adding and
// subtracting 1.5·2^23 leaves no fraction bits of a magnitude below 2^22, and x is at
// most a few roundings above largest.
func nearest(x, largest float32) float32 {
	const half = 0x1.8p23
	return min(max(x+half-half, -largest), largest)
}

func subtract(x, means []float32) {
	for c, m := range means {
		x[c] -= m
	}
}
