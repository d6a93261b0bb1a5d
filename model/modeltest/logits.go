package modeltest

import (
	"fmt"
	"math"

	"quantize/model"
)

// Float64 holds weights by tensor name in float64: a [Checkpoint] widened, so
// that a transform can be applied without rounding.
type Float64 map[string][]float64

// Widen returns the checkpoint's tensors in float64.
func (c *Checkpoint) Widen() Float64 {
	w := Float64{}
	for name, t := range c.Tensors {
		d := make([]float64, len(t.Data))
		for i, v := range t.Data {
			d[i] = float64(v)
		}
		w[name] = d
	}
	return w
}

// Online is what a transform does at run time, in float64. The zero value does
// nothing; both functions change their arguments in place.
type Online struct {
	QK     func(layer int, q, k [][]float64) // after rotary embedding: (M, Heads*HeadDim), (M, KVHeads*HeadDim)
	DownIn func(x [][]float64)               // the input of down
}

// Logits returns the (len(tokens), Vocab) logits of one window, float64
// throughout (only the rotary frequencies are the model's float32 ones).
func Logits(cfg *model.Config, w Float64, tokens []int32) [][]float64 {
	return LogitsOnline(cfg, w, tokens, Online{})
}

// LogitsOnline is Logits of a model with work at run time.
func LogitsOnline(cfg *model.Config, w Float64, tokens []int32, online Online) [][]float64 {
	a, d := cfg.Arch, cfg.HeadDim
	x := make([][]float64, len(tokens))
	for i, t := range tokens {
		e := w.get(a.Embedding + ".weight")
		x[i] = append([]float64(nil), e[int(t)*cfg.Hidden:(int(t)+1)*cfg.Hidden]...)
	}
	for layer := range cfg.Layers {
		prefix := fmt.Sprintf("%s%d.", a.Layers, layer)
		apply := func(role model.Role, in [][]float64) [][]float64 {
			for _, l := range cfg.Linears(layer) {
				if l.Role == role {
					return affine(in, w.get(prefix+l.Name+".weight"), w[prefix+l.Name+".bias"])
				}
			}
			panic("modeltest: no linear with that role")
		}
		in := normed(x, w.get(prefix+a.AttnNorm+".weight"), cfg.NormEps)
		q, k, v := apply(model.RoleQ, in), apply(model.RoleK, in), apply(model.RoleV, in)
		if a.QNorm != "" {
			eachHead(q, d, func(_ int, h []float64) { rmsNorm(h, h, w.get(prefix+a.QNorm+".weight"), cfg.NormEps) })
			eachHead(k, d, func(_ int, h []float64) { rmsNorm(h, h, w.get(prefix+a.KNorm+".weight"), cfg.NormEps) })
		}
		rotate(q, cfg)
		rotate(k, cfg)
		if online.QK != nil {
			online.QK(layer, q, k)
		}
		accumulate(x, apply(model.RoleO, attend(q, k, v, cfg, cfg.Window(layer))))

		in = normed(x, w.get(prefix+a.MLPNorm+".weight"), cfg.NormEps)
		if cfg.HasExperts(layer) {
			accumulate(x, mixture(in, cfg, w, prefix, online))
			continue
		}
		accumulate(x, apply(model.RoleDown, gated(apply(model.RoleGate, in), apply(model.RoleUp, in), online)))
	}
	head := a.Head
	if cfg.TieEmbeddings {
		head = a.Embedding
	}
	return affine(normed(x, w.get(a.FinalNorm+".weight"), cfg.NormEps), w.get(head+".weight"), nil)
}

// gated is SiLU(gate)*up, as down reads it.
func gated(gate, up [][]float64, online Online) [][]float64 {
	for i := range gate {
		for j, g := range gate[i] {
			up[i][j] *= g / (1 + math.Exp(-g))
		}
	}
	if online.DownIn != nil {
		online.DownIn(up)
	}
	return up
}

func (w Float64) get(name string) []float64 {
	t, ok := w[name]
	if !ok {
		panic("modeltest: no tensor " + name)
	}
	return t
}

// affine is x Wᵀ + b for W (N, K) row by row.
func affine(x [][]float64, weight, bias []float64) [][]float64 {
	out := make([][]float64, len(x))
	for i, row := range x {
		k := len(row)
		out[i] = make([]float64, len(weight)/k)
		for n := range out[i] {
			out[i][n] = dot(row, weight[n*k:(n+1)*k])
			if bias != nil {
				out[i][n] += bias[n]
			}
		}
	}
	return out
}

func normed(x [][]float64, weight []float64, eps float64) [][]float64 {
	out := make([][]float64, len(x))
	for i, row := range x {
		out[i] = make([]float64, len(row))
		rmsNorm(out[i], row, weight, eps)
	}
	return out
}

func rmsNorm(dst, x, weight []float64, eps float64) {
	scale := 1 / math.Sqrt(dot(x, x)/float64(len(x))+eps)
	for i, v := range x {
		dst[i] = weight[i] * v * scale
	}
}

func eachHead(x [][]float64, d int, f func(position int, head []float64)) {
	for i, row := range x {
		for ; len(row) > 0; row = row[d:] {
			f(i, row[:d])
		}
	}
}

func rotate(x [][]float64, cfg *model.Config) {
	inv, pairs := cfg.Rope.InvFreq(cfg.HeadDim), cfg.Arch.Pairing.Pairs(cfg.HeadDim)
	eachHead(x, cfg.HeadDim, func(position int, h []float64) {
		for i, f := range inv {
			sin, cos := math.Sincos(float64(f) * float64(position))
			sin, cos = sin*cfg.Rope.AttentionFactor, cos*cfg.Rope.AttentionFactor
			a, b := pairs[i][0], pairs[i][1]
			h[a], h[b] = h[a]*cos-h[b]*sin, h[b]*cos+h[a]*sin
		}
	})
}

func attend(q, k, v [][]float64, cfg *model.Config, window int) [][]float64 {
	d, group := cfg.HeadDim, cfg.Heads/cfg.KVHeads
	out := make([][]float64, len(q))
	for i := range q {
		out[i] = make([]float64, len(q[i]))
		for h := range cfg.Heads {
			kv := h / group * d
			p := make([]float64, i+1)
			for j := range p {
				p[j] = dot(q[i][h*d:(h+1)*d], k[j][kv:kv+d]) / math.Sqrt(float64(d))
				if window > 0 && j <= i-window {
					p[j] = math.Inf(-1)
				}
			}
			softmax(p)
			for j, s := range p {
				for c := range d {
					out[i][h*d+c] += s * v[j][kv+c]
				}
			}
		}
	}
	return out
}

func accumulate(x, y [][]float64) {
	for i := range x {
		for j := range x[i] {
			x[i][j] += y[i][j]
		}
	}
}
