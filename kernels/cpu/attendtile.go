package cpu

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

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
	memory []float32 // of keys and values
	zeros  []float32 // the bias of a panel of scores
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

// attentions keeps the memory of past calls.
var attentions = sync.Pool{New: func() any { return new(attention) }}

func newAttention(c *Compute, tokens int, a model.Attention) *attention {
	kern, s := c.kern, attentions.Get().(*attention)
	*s = attention{
		kern: kern, tokens: tokens, keys: blockKeys, scale: a.Scale, window: a.Window, dim: a.HeadDim,
		height: (blockQueries + kern.rows - 1) / kern.rows * kern.rows,
		kv:     make([]keyValue, a.KVHeads), memory: s.memory,
	}
	if s.window == 0 || s.window > tokens {
		s.window = tokens
	}
	return s
}

// pack packs keys and values, a block of keys of one head a task. It returns
// false if a value is not finite. The memory has seen other calls: what lies in
// the padding of the last panels ends in scores that are masked and in channels
// that are not there.
func (s *attention) pack(workers int, k, v tensor.Matrix) bool {
	wide := func(n int) int { return (n + s.kern.cols - 1) / s.kern.cols * s.kern.cols }
	keys, values := wide(s.tokens)*s.dim, s.tokens*wide(s.dim)
	s.memory = grow(s.memory, len(s.kv)*(keys+values))
	s.zeros = aligned(s.kern.cols)
	for g := range s.kv {
		at := g * (keys + values)
		s.kv[g] = keyValue{
			keys:   &packed{kern: s.kern, n: s.tokens, k: s.dim, block: s.dim, data: s.memory[at : at+keys]},
			values: &packed{kern: s.kern, n: s.dim, k: s.tokens, block: s.keys, data: s.memory[at+keys : at+keys+values]},
		}
	}
	blocks := (s.tokens + s.keys - 1) / s.keys
	var infinite atomic.Bool
	parallel(workers, len(s.kv)*blocks, func(_, task int) {
		g, from := task/blocks, task%blocks*s.keys
		to := min(from+s.keys, s.tokens)
		columns := func(m tensor.Matrix) tensor.Matrix { return m.RowRange(from, to).ColRange(g*s.dim, (g+1)*s.dim) }
		rows := columns(k)
		s.kv[g].keys.setRows(from, to-from, rows.Data, rows.Stride)
		rows = columns(v)
		for j := range rows.Rows {
			s.kv[g].values.setColumn(from+j, rows.Row(j))
			if !allFinite(rows.Row(j)) {
				infinite.Store(true)
			}
		}
	})
	return !infinite.Load()
}

// allFinite reports whether x has no infinity and no NaN: their exponents are
// all ones, so that adding one to it carries into the sign.
func allFinite(x []float32) bool {
	carry := uint32(0)
	for _, v := range x {
		carry |= math.Float32bits(v)&0x7FFFFFFF + 1<<23
	}
	return carry < 1<<31
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
		s.scaled(w.q[r*s.dim:(r+1)*s.dim], q.Row(r), s.scale)
		w.top[r], w.sum[r] = float32(math.Inf(-1)), 0
	}
	first, _ := s.visible(from)
	for key := first / s.keys * s.keys; key < from+rows; key += s.keys {
		w.score(s, kv.keys, from, rows, key)
		w.soften(s, from, rows, key, width)
		w.gather(s, kv.values, from, rows, key, width)
	}
	for r := range rows {
		s.scaled(dst.Row(r), w.out[r*width:r*width+s.dim], 1/w.sum[r])
	}
}

// scaled writes x * factor, one channel of a head after the other.
func (s *attention) scaled(dst, x []float32, factor float32) {
	whole := len(x) / s.kern.lanes * s.kern.lanes
	s.kern.scale(pointer(dst, 0), pointer(x, 0), whole, factor)
	for t := whole; t < len(x); t++ {
		dst[t] = x[t] * factor
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
		panel := pointer(k.data, k.start(0, j/kern.cols))
		c := pointer(w.scores, low*s.stride()+j-key)
		kern.product(high-low, s.dim, pointer(w.q, low*s.dim), s.dim, panel, c, s.stride(), &s.zeros[0], 0, behind(panel, s.dim*kern.cols))
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

// gather adds P·v to the results, a panel of channels after the other. Where
// all rows see all keys of the block that is one product; else each tile of rows
// runs over the keys it sees.
func (w *workspace) gather(s *attention, v *packed, from, rows, key, width int) {
	kern := s.kern
	keys := min(s.keys, s.tokens-key)
	lastLow, _ := s.visible(from + rows - 1)
	whole := key+keys <= from+1 && lastLow <= key
	step := kern.rows
	if whole {
		step = rows
	}
	for p := range v.panels() {
		panel := v.start(key/s.keys, p)
		for r := 0; r < rows; r += step {
			count := min(step, rows-r)
			low, _ := s.visible(from + r)
			_, high := s.visible(from + r + count - 1)
			low, high = max(0, low-key), min(keys, high-key)
			if low >= high {
				continue
			}
			a := pointer(w.scores, r*s.stride()+low)
			b := pointer(v.data, panel+low*kern.cols)
			c := pointer(w.out, r*width+p*kern.cols)
			next := uintptr(0) // a panel that is not whole stays in the cache for all tiles
			if whole {
				next = behind(b, keys*kern.cols)
			}
			kern.product(count, high-low, a, s.stride(), b, c, width, c, width, next)
		}
	}
}

// behind is the address after n elements: what a product asks for ahead.
func behind(p *float32, n int) uintptr { return uintptr(unsafe.Pointer(p)) + uintptr(4*n) }
