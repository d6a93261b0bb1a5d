package cpu

import (
	"math"
	"math/bits"

	"quantize/kernels"
	"quantize/tensor"
)

// attentionTask is the memory of one task: a tile of keys and values to round, or 128
// queries of a head.
type attentionTask struct {
	rows   []float32                    // (128, HeadDim): queries, or keys
	groups [kernels.SmoothBlock]uint8   // of each token: its group's place in scales
	scales [kernels.SmoothBlock]float32 // by group
	shift  [kernels.SmoothBlock]float64 // what smooth K takes from lse
	from   [kernels.SmoothBlock]int     // first key that a query sees
	to     [kernels.SmoothBlock]int     // and the one behind the last
	means  []float32                    // (HeadDim) of queries, times the scale
	sums   []float64                    // (HeadDim)
	delta  []float32                    // scale·ΔS of a tile, filled up to whole panels
	scores []float32                    // (128, kernels.KeyTile), rows attentionStride apart
	out    []float32                    // (128, values.panels·cols)
	top    [kernels.SmoothBlock]float32
	sum    [kernels.SmoothBlock]float32
}

// attentionStride is the distance of two rows of scores: not a power of two, so that the
// rows of a tile do not share the sets of a cache, and room for whole vectors.
const attentionStride = kernels.KeyTile + 2*maxLanes

// run computes the queries first, first+1, ... of head h of sequence b.
func (t *attentionTask) run(s *quantizedAttention, b, h, first int, dst, lse, q tensor.Matrix) {
	a, d := &s.a, s.a.HeadDim
	head := &s.heads[b*a.KVHeads+h/(a.Heads/a.KVHeads)]
	rows := min(kernels.SmoothBlock, a.Queries-first)
	at := b*a.Queries + first
	columns := func(m tensor.Matrix) tensor.Matrix { return m.RowRange(at, at+rows).ColRange(h*d, (h+1)*d) }
	t.queries(s, head, first, columns(q), lse.Cols > 0)

	width := head.values.panels() * s.kern.cols
	t.scores = grow(t.scores, kernels.SmoothBlock*attentionStride)
	t.delta = grow(t.delta, kernels.KeyTile)
	t.out = grow(t.out, rows*width)
	clear(t.out)
	for r := range rows {
		t.from[r], t.to[r] = a.KeyRange(first + r)
		t.top[r], t.sum[r] = float32(math.Inf(-1)), 0
	}
	for key := t.from[0] / kernels.KeyTile * kernels.KeyTile; key < t.to[rows-1]; key += kernels.KeyTile {
		if !a.Touches(b, h, first, first+rows, key, min(key+kernels.KeyTile, a.Keys)) {
			continue
		}
		t.score(s, head, rows, key)
		t.soften(s, b, h, first, rows, key, width)
		t.gather(s, &head.values, rows, key, width)
	}
	out := columns(dst)
	for r := range rows {
		t.finish(head, out.Row(r), r, width)
		if lse.Cols > 0 {
			lse.Row(at + r)[h] = float32(float64(t.top[r]) + math.Log(float64(t.sum[r])) + t.shift[r])
		}
	}
}

// queries leaves code·(δ·scale) of each query in t.rows, and the mean that smoothing
// takes off, times the scale, in t.means.
func (t *attentionTask) queries(s *quantizedAttention, head *quantizedHead, first int, q tensor.Matrix, shifted bool) {
	a, d := &s.a, s.a.HeadDim
	t.rows, t.means = grow(t.rows, q.Rows*d), grow(t.means, d)
	if cap(t.sums) < d {
		t.sums = make([]float64, d)
	}
	columnMeans(t.means, t.sums[:d], q, a.Format.SmoothQ)
	for r := range q.Rows {
		row := t.rows[r*d : (r+1)*d]
		copy(row, q.Row(r))
		t.shift[r] = 0
		if shifted && a.Format.SmoothK {
			for c, mean := range head.keyMeans {
				t.shift[r] += float64(row[c]) * float64(mean)
			}
			t.shift[r] *= float64(a.Scale)
		}
		subtract(row, t.means)
	}
	if n := bits.TrailingZeros(uint(d)); a.Format.Hadamard {
		t.turn(q.Rows, d, n/2)
	}
	base := a.Format.QueryGroup(first)
	t.group(q.Rows, func(r int) int { return a.Format.QueryGroup(first+r) - base })
	t.encode(a.Format.Mode, q.Rows, d, a.Scale)
	for c := range t.means {
		t.means[c] *= a.Scale
	}
}

// score computes the scores of a tile of keys panel by panel, for the rows that see some
// key of the panel.
func (t *attentionTask) score(s *quantizedAttention, head *quantizedHead, rows, key int) {
	kern, d, low, high := s.kern, s.a.HeadDim, 0, 0
	for j := key; j < min(key+kernels.KeyTile, t.to[rows-1]); j += kern.cols {
		for low < rows && t.to[low] <= j {
			low++ // it ends before the panel
		}
		for high < rows && t.from[high] < j+kern.cols {
			high++ // the next ones start behind it
		}
		if low >= high {
			continue
		}
		init := &s.zeros[0]
		if s.a.Format.SmoothQ {
			smooth := pointer(head.smooth.data, head.smooth.start(0, j/kern.cols))
			init = &t.delta[j-key]
			kern.product(1, d, &t.means[0], d, smooth, init, kern.cols, &s.zeros[0], 0, 0)
		}
		panel := pointer(head.keys.data, head.keys.start(0, j/kern.cols))
		c := &t.scores[low*attentionStride+j-key]
		kern.product(high-low, d, &t.rows[low*d], d, panel, c, attentionStride, init, 0, behind(panel, d*kern.cols))
	}
}

// soften turns the scores that each row sees into probabilities in E4M3, the others into
// zeros, and rescales what the row has summed so far.
func (t *attentionTask) soften(s *quantizedAttention, b, h, first, rows, key, width int) {
	kern := s.kern
	for r := range rows {
		row := t.scores[r*attentionStride : (r+1)*attentionStride]
		low, high := max(t.from[r]-key, 0), min(t.to[r]-key, kernels.KeyTile)
		if low >= high || s.a.Mask != nil && !s.hide(row[:high], low, b, h, first+r, key) {
			clear(row[:kernels.KeyTile])
			continue
		}
		top, sum := kern.softmax(&row[low], high-low, t.top[r])
		s.roundProbabilities(row[low : low+(high-low+kern.lanes-1)/kern.lanes*kern.lanes])
		clear(row[:low])
		clear(row[high:kernels.KeyTile])
		if top != t.top[r] {
			shrink := float32(math.Exp(float64(t.top[r] - top)))
			t.sum[r] *= shrink
			kern.scale(&t.out[r*width], &t.out[r*width], width, shrink)
		}
		t.top[r] = top
		t.sum[r] += sum
	}
}

// hide makes the scores from low on that a mask hides from a query so low that their
// exponentials are lost beside any other, and reports whether it sees one of them.
func (s *quantizedAttention) hide(row []float32, low, b, h, i, key int) (seen bool) {
	for j := low; j < len(row); j++ {
		if s.a.Sees(b, h, i, key+j) {
			seen = true
		} else {
			row[j] = float32(math.Inf(-1))
		}
	}
	return seen
}

// roundProbabilities rounds p to e4m3(448·p)/448: E4M3 of a static scale.
func (s *quantizedAttention) roundProbabilities(p []float32) {
	const scale float32 = 1.0 / tensor.MaxE4M3
	if s.round != nil {
		s.round(&p[0], &p[0], len(p), scale, scale)
		return
	}
	for j, x := range p {
		p[j] = scale * tensor.RoundE4M3(x/scale)
	}
}

// gather adds P·v of a tile to the results, a panel of channels after the other. Where
// all rows see all its keys that is one product; else each few rows run over the keys
// that they see.
func (t *attentionTask) gather(s *quantizedAttention, v *packed, rows, key, width int) {
	kern := s.kern
	keys := min(kernels.KeyTile, s.a.Keys-key)
	step := kern.rows
	if t.to[0] >= key+keys && t.from[rows-1] <= key {
		step = rows
	}
	for p := range v.panels() {
		panel := v.start(key/kernels.KeyTile, p)
		for r := 0; r < rows; r += step {
			count := min(step, rows-r)
			low, high := max(0, t.from[r]-key), min(keys, t.to[r+count-1]-key)
			if low >= high {
				continue
			}
			out := &t.out[r*width+p*kern.cols]
			kern.product(count, high-low, &t.scores[r*attentionStride+low], attentionStride, pointer(v.data, panel+low*kern.cols), out, width, out, width, 0)
		}
	}
}

// finish writes the output of row r; zeros where it saw no key.
func (t *attentionTask) finish(head *quantizedHead, dst []float32, r, width int) {
	if t.sum[r] == 0 {
		clear(dst)
		return
	}
	for c := range dst {
		dst[c] = t.out[r*width+c]/t.sum[r]*head.valueScales[c] + head.valueMeans[c]
	}
}
