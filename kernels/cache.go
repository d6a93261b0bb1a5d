package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"

	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// NewCache returns what model.Runtime.Cache does under a scheme: it rounds keys
// and values, rotary embedding applied, to what the cache keeps of them, in place,
// in the arithmetic of package packer (EncodeKV4, EncodeKV4Asymmetric, EncodeKV8)
// with every step in FP32. Its plain twin is ref.NewCache, equal to the bit.
//
//	k = (cached(k·κ - μk) + μk) / κ      κ, μk: s.KeyScales, s.KeyMeans of the layer
//	v = cached(v - μv) + μv              μv: s.ValueMeans
//	q = fp8(q/κ)·κ                       with FP8Queries; else q stays
//
// A kernel multiplies q/κ by cached(k·κ - μk) and never adds μk: its scores are lower
// by q·(μk/κ), which is one number for a query and all its keys, and softmax drops it
// (smooth K, docs/methods.md 2.2). It adds μv to its output, once: the weights of a
// query sum to 1, so μv comes back exactly (2.3). Both are then what this function's
// keys and values give, up to the roundings of κ and of the sums.
//
// s may be nil where the scheme needs no stored scales. A scheme that keeps everything
// gives nil, which is what Runtime takes for nothing to do.
//
// The function is safe for concurrent use, shares rows out over GOMAXPROCS
// goroutines (the result does not depend on their number), and takes no memory
// once it is warm. Errors: packer.ErrOption for a scheme that does not fit the model,
// or FP8 with key scales or means, packer.ErrInvalid for a sidecar of another model.
func NewCache(scheme packer.KVScheme, s *packer.Sidecar, c *model.Config) (func(layer int, q, k, v tensor.Matrix), error) {
	if err := CheckCache(scheme, s, c); err != nil {
		return nil, err
	}
	if scheme.Format == packer.KVNone {
		return nil, nil
	}
	if s == nil {
		s = &packer.Sidecar{}
	}
	r := &cacheRounder{
		scheme: scheme, sidecar: s, heads: c.Heads, kvHeads: c.KVHeads, dim: c.HeadDim,
		group: scheme.Group(c.HeadDim), workers: runtime.GOMAXPROCS(0),
	}
	r.jobs.New = func() any {
		j := &cacheJob{r: r}
		j.work = j.run
		return j
	}
	return r.round, nil
}

// cacheRounder holds what is constant from call to call.
type cacheRounder struct {
	scheme              packer.KVScheme
	sidecar             *packer.Sidecar
	heads, kvHeads, dim int
	group, workers      int
	jobs                sync.Pool // of *cacheJob
}

// cacheJob is one call. Its method value is made once, since one made for every
// go statement would be garbage.
type cacheJob struct {
	r       *cacheRounder
	work    func()
	layer   int
	q, k, v tensor.Matrix
	height  int // rows that a worker takes at a time
	next    atomic.Int64
	done    sync.WaitGroup
}

// cacheShare is the number of elements that pay for taking them.
const cacheShare = 1 << 13

func (r *cacheRounder) round(layer int, q, k, v tensor.Matrix) {
	if q.Cols != r.heads*r.dim || k.Cols != r.kvHeads*r.dim || v.Cols != k.Cols || q.Rows != k.Rows || v.Rows != k.Rows {
		panic("kernels: queries, keys and values of another shape than the config's")
	}
	width := k.Cols + v.Cols
	if r.scheme.FP8Queries {
		width += q.Cols
	}
	j := r.jobs.Get().(*cacheJob)
	j.layer, j.q, j.k, j.v = layer, q, k, v
	j.height = max(1, cacheShare/width)
	j.next.Store(0)
	workers := min(r.workers, (k.Rows+j.height-1)/j.height)
	for w := 1; w < workers; w++ {
		j.done.Add(1)
		go j.work()
	}
	j.done.Add(1)
	j.run()
	j.done.Wait()
	j.q, j.k, j.v = tensor.Matrix{}, tensor.Matrix{}, tensor.Matrix{}
	r.jobs.Put(j)
}

// run takes blocks of rows until there are none.
func (j *cacheJob) run() {
	defer j.done.Done()
	for {
		to := int(j.next.Add(int64(j.height)))
		from := to - j.height
		if from >= j.k.Rows {
			return
		}
		for m := from; m < min(to, j.k.Rows); m++ {
			j.row(m)
		}
	}
}

func (j *cacheJob) row(m int) {
	r := j.r
	scales, means := ofLayer(r.sidecar.KeyScales, j.layer), ofLayer(r.sidecar.KeyMeans, j.layer)
	k := j.k.Row(m)
	for i, s := range scales {
		k[i] *= s
	}
	r.smoothed(k, means, r.sidecar.KScales, j.layer)
	for i, s := range scales {
		k[i] /= s
	}
	r.smoothed(j.v.Row(m), ofLayer(r.sidecar.ValueMeans, j.layer), r.sidecar.VScales, j.layer)
	if !r.scheme.FP8Queries {
		return
	}
	q := j.q.Row(m)
	for h := range r.heads {
		head, channels := q[h*r.dim:(h+1)*r.dim], scales
		if len(scales) > 0 {
			channels = scales[h/(r.heads/r.kvHeads)*r.dim:][:r.dim]
		}
		for i, s := range channels {
			head[i] /= s
		}
		roundQuery8(head)
		for i, s := range channels {
			head[i] *= s
		}
	}
}

// ofLayer is nil where a sidecar has nothing for the layer.
func ofLayer(list [][]float32, layer int) []float32 {
	if list == nil {
		return nil
	}
	return list[layer]
}

// smoothed rounds one token's keys or values without their means.
func (r *cacheRounder) smoothed(x, means, stored []float32, layer int) {
	for i, mean := range means {
		x[i] -= mean
	}
	r.cached(x, stored, layer)
	for i, mean := range means {
		x[i] += mean
	}
}

// cached rounds one token's keys or values.
func (r *cacheRounder) cached(x, stored []float32, layer int) {
	if r.scheme.Format == packer.KVFP8 {
		roundKV8(x, stored[layer])
		return
	}
	for ; len(x) > 0; x = x[r.group:] {
		if r.scheme.Symmetric {
			roundKV4(x[:r.group])
		} else {
			roundKV4Asymmetric(x[:r.group])
		}
	}
}
