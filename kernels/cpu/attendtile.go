package cpu

import (
	"math"
	"sync"

	"quantize/model"
	"quantize/tensor"
)

// attention is what all tasks of one call share: the keys and values of every
// KV head, packed as operands of a product.
type attention struct {
	kern   *kernel
	tokens int
	height int // queries of a task
	keys   int // keys of a block
	scale  float32
	window int // tokens at most when there is none
	dim    int
	kv     []keyValue
}

// keyValue is one KV head. keys is the weight (tokens, dim) of scores = q·kᵀ in
// one block of k; values is the weight (dim, tokens) of out = P·(vᵀ)ᵀ in blocks
// of attention.keys.
type keyValue struct{ keys, values *packed }

// The blocks of queries and keys: the scores of a task (height x keys) with the
// packed keys and values of one block stay in the second-level cache.
const (
	blockQueries = 96
	blockKeys    = 384
)

func newAttention(c *Compute, tokens int, a model.Attention) *attention {
	kern := c.kern
	s := &attention{
		kern: kern, tokens: tokens, keys: blockKeys, scale: a.Scale, window: a.Window, dim: a.HeadDim,
		height: (blockQueries + kern.rows - 1) / kern.rows * kern.rows,
		kv:     make([]keyValue, a.KVHeads),
	}
	if s.window == 0 || s.window > tokens {
		s.window = tokens
	}
	return s
}

// pack packs keys and values. It returns false if a value is not finite.
func (s *attention) pack(workers int, k, v tensor.Matrix) bool {
	finite := make([]bool, len(s.kv))
	parallel(workers, len(s.kv), func(_, g int) {
		keys := newPackedBlock(s.kern, s.tokens, s.dim, s.dim)
		values := newPackedBlock(s.kern, s.dim, s.tokens, s.keys)
		sum := float32(0)
		for j := range s.tokens {
			keys.setRow(j, k.Row(j)[g*s.dim:(g+1)*s.dim])
			row := v.Row(j)[g*s.dim : (g+1)*s.dim]
			values.setColumn(j, row)
			for _, x := range row {
				sum += x * 0
			}
		}
		finite[g] = sum == 0
		s.kv[g] = keyValue{keys, values}
	})
	for _, ok := range finite {
		if !ok {
			return false
		}
	}
	return true
}

// visible returns the keys [from, to) that query i sees.
func (s *attention) visible(i int) (from, to int) { return max(0, i-s.window+1), i + 1 }

// workspace is the memory of one task.
type workspace struct {
	q        []float32 // (height, dim), scaled
	scores   []float32 // (height, keys), rows stride apart
	out      []float32 // (height, values.panels*cols)
	top, sum []float32 // (height)
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

// queries computes dst for the queries from, from+1, ...; dst and q are the
// columns of one head.
func (w *workspace) queries(s *attention, kv keyValue, from int, dst, q tensor.Matrix) {
	rows, width := q.Rows, kv.values.panels()*s.kern.cols
	w.q = grow(w.q, rows*s.dim)
	w.scores = grow(w.scores, rows*s.stride())
	w.out = grow(w.out, rows*width)
	w.top, w.sum = grow(w.top, rows), grow(w.sum, rows)
	clear(w.out)
	for r := range rows {
		to := w.q[r*s.dim : (r+1)*s.dim]
		for t, x := range q.Row(r) {
			to[t] = x * s.scale
		}
		w.top[r], w.sum[r] = float32(math.Inf(-1)), 0
	}
	first, _ := s.visible(from)
	for key := first / s.keys * s.keys; key < from+rows; key += s.keys {
		w.score(s, kv.keys, from, rows, key)
		w.soften(s, from, rows, key, width)
		w.gather(s, kv.values, from, rows, key, width)
	}
	for r := range rows {
		out := w.out[r*width : (r+1)*width]
		s.kern.scale(&out[0], &out[0], width, 1/w.sum[r])
		copy(dst.Row(r), out)
	}
}

// stride is the distance of two rows of scores: not a power of two, so that
// the rows of a tile do not share the sets of a cache.
func (s *attention) stride() int { return s.keys + 2*maxLanes }

// score computes the scores of the keys key, key+1, ... panel by panel, for the
// rows that see some key of the panel.
func (w *workspace) score(s *attention, k *packed, from, rows, key int) {
	kern := s.kern
	for j := key; j < min(key+s.keys, from+rows); j += kern.cols {
		low := max(0, j-from) / kern.rows * kern.rows      // rows before do not reach back far enough
		high := min(rows, j+kern.cols-1+s.window-1-from+1) // rows after have it out of their window
		if low >= high {
			continue
		}
		panel, bias := pointer(k.data, k.start(0, j/kern.cols)), pointer(k.bias, 0)
		c := pointer(w.scores, low*s.stride()+j-key)
		kern.product(high-low, s.dim, pointer(w.q, low*s.dim), s.dim, panel, c, s.stride(), bias, 0, 0)
	}
}

// soften turns the visible scores of each row into exponentials, the others
// into zeros, and rescales what the row has summed so far.
func (w *workspace) soften(s *attention, from, rows, key, width int) {
	for r := range rows {
		row := w.scores[r*s.stride() : r*s.stride()+s.keys]
		low, high := s.visible(from + r)
		low, high = max(0, low-key), min(s.keys, high-key)
		if low >= high {
			clear(row)
			continue
		}
		// softmax fills up its last vector, which may reach into the gap
		// between the rows.
		top, sum := s.kern.softmax(&row[low], high-low, w.top[r])
		clear(row[:low])
		clear(row[high:])
		if top != w.top[r] {
			shrink := float32(math.Exp(float64(w.top[r] - top)))
			w.sum[r] *= shrink
			s.kern.scale(&w.out[r*width], &w.out[r*width], width, shrink)
		}
		w.top[r] = top
		w.sum[r] += sum
	}
}

// gather adds P·v to the results. Where all rows see all keys of the block it
// is one product a panel; else each tile of rows runs over the keys it sees.
func (w *workspace) gather(s *attention, v *packed, from, rows, key, width int) {
	kern := s.kern
	keys := min(s.keys, s.tokens-key)
	lastLow, _ := s.visible(from + rows - 1)
	whole := key+keys <= from+1 && lastLow <= key
	step := kern.rows
	if whole {
		step = rows
	}
	for r := 0; r < rows; r += step {
		count := min(step, rows-r)
		low, _ := s.visible(from + r)
		_, high := s.visible(from + r + count - 1)
		low, high = max(0, low-key), min(keys, high-key)
		if whole {
			low, high = 0, keys
		}
		if low >= high {
			continue
		}
		a := pointer(w.scores, r*s.stride()+low)
		for p := range v.panels() {
			panel := pointer(v.data, v.start(key/s.keys, p)+low*kern.cols)
			c := pointer(w.out, r*width+p*kern.cols)
			kern.product(count, high-low, a, s.stride(), panel, c, width, c, width, 0)
		}
	}
}
