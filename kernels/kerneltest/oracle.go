package kerneltest

import (
	"math"

	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// e4m3 rounds x to the nearest E4M3 value by the definition of the grid: steps
// of 2^(max(floor(log2|x|), -6) - 3), ties to even, saturating at 448.
func e4m3(x float64) float64 {
	if x == 0 || math.IsNaN(x) {
		return x
	}
	_, e := math.Frexp(x) // |x| in [2^(e-1), 2^e)
	step := math.Ldexp(1, max(e-1, -6)-3)
	return math.Copysign(min(math.RoundToEven(math.Abs(x)/step)*step, 448), x)
}

// tokenOf returns the scale and the E4M3 values of one token.
func tokenOf(x []float32) (a float32, values []float64) {
	top := float32(0)
	for _, v := range x {
		if v > top {
			top = v
		}
		if -v > top {
			top = -v
		}
	}
	a = max(top/448, float32(1.0/(448*512)))
	values = make([]float64, len(x))
	for k, v := range x {
		values[k] = e4m3(float64(v / a))
	}
	return a, values
}

// Want is a linear's formula as data: y = scale(m)·Row(n)·Σ x'·w' + b.
type Want struct {
	N, K  int
	W     []float64 // (N, K), what is multiplied
	Row   []float64 // (N), factor of the sums of a row
	Bias  []float32 // or nil
	Token bool      // activations are rounded to E4M3 with a scale per token
	// Sum and Store are a coarser arithmetic's (Coarse), or 0.
	Sum, Store float64
}

// wantInt4 writes out the meaning of w under arithmetic a from its bits.
func wantInt4(w *packer.Int4Weight, a packer.Arithmetic, bias []float32) *Want {
	want := &Want{N: w.N, K: w.K, W: make([]float64, w.N*w.K), Row: make([]float64, w.N), Bias: bias, Token: a != packer.WeightOnly}
	groups := w.K / w.GroupSize
	for n := range w.N {
		scales := make([]float32, groups)
		top := float32(0)
		for g := range scales {
			scales[g] = math.Float32frombits(uint32(w.Scales[n*groups+g]) << 16)
			top = max(top, scales[g])
		}
		chan32 := max(top/448, float32(1.0/(448*512)))
		want.Row[n] = float64(chan32)
		if !want.Token {
			want.Row[n] = 1
		}
		for k := range w.K {
			q := float64(w.Codes[(n*w.K+k)/8]>>(k%8*4)&15) - 8
			s := scales[k/w.GroupSize]
			eighth := e4m3(e4m3(float64(s/chan32)) / 8)
			v := &want.W[n*w.K+k]
			switch a {
			case packer.LUT:
				*v = e4m3(q*eighth) * 8
			case packer.Exact:
				*v = q * eighth * 8
			case packer.WeightOnly:
				*v = q * float64(s)
			}
		}
	}
	return want
}

// forward computes the formula for x and bounds its FP32 evaluation.
func (w *Want) forward(x tensor.Matrix, roundings int) *Result {
	out := newResult(x.Rows, w.N)
	magnitudes := make([]float64, len(out.Value))
	for m := range x.Rows {
		a, values := float32(1), []float64(nil)
		if w.Token {
			a, values = tokenOf(x.Row(m))
		} else {
			for _, v := range x.Row(m) {
				values = append(values, float64(v))
			}
		}
		for n := range w.N {
			sum, magnitude := 0.0, 0.0
			for k, v := range w.W[n*w.K : (n+1)*w.K] {
				sum += values[k] * v
				magnitude += math.Abs(values[k] * v)
			}
			scale, b := float64(a)*w.Row[n], 0.0
			if w.Bias != nil {
				b = float64(w.Bias[n])
			}
			magnitudes[m*w.N+n] = scale * magnitude
			terms := float64(w.K + roundings)
			out.set(m, n, scale*sum+b, terms*(u*(scale*magnitude+math.Abs(b))+tiny*max(1, scale)))
		}
	}
	if w.Sum > 0 || w.Store > 0 {
		return out.coarse(magnitudes, w.Sum, w.Store)
	}
	return out
}

// attendOf computes causal attention and the bound of its FP32 evaluation.
// With S = max_j scale·Σ|q||k| a score is off by (d+3)·u·S, an exponential by
// twice that (score and maximum) and its own rounding, and so are numerator and
// denominator of Σ p·v / Σ p; both sums add a rounding per key.
func attendOf(q, k, v tensor.Matrix, a model.Attention) *Result {
	d := a.HeadDim
	out := newResult(q.Rows, a.Heads*d)
	for h := range a.Heads {
		from := h / (a.Heads / a.KVHeads) * d
		for i := range q.Rows {
			var keys []int
			for j := range i + 1 {
				if a.Window == 0 || i-j < a.Window {
					keys = append(keys, j)
				}
			}
			scores := make([]float64, len(keys))
			top, largest := math.Inf(-1), 0.0
			for at, j := range keys {
				magnitude := 0.0
				for c := range d {
					p := float64(q.Row(i)[h*d+c]) * float64(k.Row(j)[from+c])
					scores[at] += p
					magnitude += math.Abs(p)
				}
				scores[at] *= float64(a.Scale)
				largest = max(largest, magnitude*math.Abs(float64(a.Scale)))
				top = math.Max(top, scores[at])
			}
			relative := u * (4*float64(d+3)*largest + 2*expRoundings + 2*float64(len(keys)) + attendRoundings)
			total := 0.0
			for at := range scores {
				scores[at] = math.Exp(scores[at] - top)
				total += scores[at]
			}
			for c := range d {
				sum, magnitude := 0.0, 0.0
				for at, j := range keys {
					x := float64(v.Row(j)[from+c])
					sum += scores[at] * x
					magnitude += scores[at] * math.Abs(x)
				}
				out.set(i, h*d+c, sum/total, relative*magnitude/total+float64(len(keys))*tiny)
			}
		}
	}
	return out
}
