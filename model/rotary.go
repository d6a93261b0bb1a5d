package model

import (
	"math"
	"sync"

	"quantize/tensor"
)

// InvFreq returns the dim/2 rotary frequencies of a head of dim channels in
// radians per token. Every step is rounded to float32 in the order in which
// transformers (modeling_rope_utils.py) does it, since that is what a model
// was trained with: at position 8192 one ulp of a frequency is 5e-4 rad.
func (r Rope) InvFreq(dim int) []float32 {
	inv := make([]float32, dim/2)
	for i := range inv {
		inv[i] = 1 / r.base(i, dim)
	}
	switch r.Type {
	case RopeDefault:
	case RopeLinear:
		for i := range inv {
			inv[i] /= float32(r.Factor)
		}
	case RopeLlama3:
		for i, f := range inv {
			inv[i] = r.llama3(f)
		}
	case RopeYarn:
		low, high := r.yarnRange(dim)
		for i, f := range inv {
			ramp := min(max((float32(i)-float32(low))/float32(high-low), 0), 1)
			keep := 1 - ramp
			slow := 1 / float32(float32(r.Factor)*r.base(i, dim))
			inv[i] = float32(slow*(1-keep)) + float32(f*keep)
		}
	}
	return inv
}

// base is Theta^(2i/dim).
func (r Rope) base(i, dim int) float32 {
	return float32(math.Pow(float64(float32(r.Theta)), float64(float32(2*i)/float32(dim))))
}

// llama3 keeps short wavelengths, divides long ones by Factor and blends
// between (Llama 3.1; Dubey et al. 2024, arXiv 2407.21783).
func (r Rope) llama3(f float32) float32 {
	context := float64(r.OriginalPositions)
	wavelength := float32(2*math.Pi) / f
	switch {
	case wavelength > float32(context/r.LowFreqFactor):
		return f / float32(r.Factor)
	case wavelength < float32(context/r.HighFreqFactor):
		return f
	}
	smooth := (float32(context)/wavelength - float32(r.LowFreqFactor)) / float32(r.HighFreqFactor-r.LowFreqFactor)
	return float32((1-smooth)*f)/float32(r.Factor) + float32(smooth*f)
}

// yarnRange returns the pair indices between which YaRN blends: pairs below
// low turn more than BetaFast times within the original context, pairs above
// high fewer than BetaSlow times (Peng et al. 2023, section 3.2).
func (r Rope) yarnRange(dim int) (low, high float64) {
	pair := func(rotations float64) float64 {
		return float64(dim) * math.Log(float64(r.OriginalPositions)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high = pair(r.BetaFast), pair(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, float64(dim-1))
	if low == high {
		high += 0.001
	}
	return low, high
}

// rotary holds cos and sin by position, (positions, HeadDim/2) each, grown
// when a longer window comes. All blocks of a model share it.
type rotary struct {
	rope    Rope
	pairing Pairing
	half    int
	inv     []float32

	mu       sync.Mutex
	cos, sin []float32
}

func newRotary(r Rope, headDim int, p Pairing) *rotary {
	return &rotary{rope: r, pairing: p, half: headDim / 2, inv: r.InvFreq(headDim)}
}

// tables returns cos and sin of at least positions 0..n-1.
func (r *rotary) tables(n int) (cosines, sines []float32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	scale := float32(r.rope.AttentionFactor)
	for p := len(r.cos) / r.half; p < n; p++ {
		for _, f := range r.inv {
			sin, cos := math.Sincos(float64(f * float32(p)))
			r.cos = append(r.cos, float32(cos)*scale)
			r.sin = append(r.sin, float32(sin)*scale)
		}
	}
	return r.cos, r.sin
}

// apply rotates every head of x (M, heads*HeadDim) in place, row m by position
// m: the channels of pair i are one complex number, turned by m*inv[i].
func (r *rotary) apply(x tensor.Matrix) {
	cosines, sines := r.tables(x.Rows)
	turn := turnHalves
	if r.pairing == Interleaved {
		turn = turnNeighbours
	}
	inParallel(x.Rows, x.Cols, func(from, to int) {
		for m := from; m < to; m++ {
			cos, sin := cosines[m*r.half:(m+1)*r.half], sines[m*r.half:(m+1)*r.half]
			for row := x.Row(m); len(row) > 0; row = row[2*r.half:] {
				turn(row[:2*r.half], cos, sin)
			}
		}
	})
}

func turnHalves(head, cos, sin []float32) {
	lo, hi := head[:len(cos)], head[len(cos):2*len(cos)]
	for i, c := range cos {
		a, b, s := lo[i], hi[i], sin[i]
		lo[i] = float32(a*c) - float32(b*s)
		hi[i] = float32(b*c) + float32(a*s)
	}
}

func turnNeighbours(head, cos, sin []float32) {
	for i, c := range cos {
		a, b, s := head[2*i], head[2*i+1], sin[i]
		head[2*i] = float32(a*c) - float32(b*s)
		head[2*i+1] = float32(b*c) + float32(a*s)
	}
}
