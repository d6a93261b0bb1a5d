package ref

import (
	"math"
	"slices"

	"quantize/kernels"
	"quantize/packer"
	"quantize/tensor"
)

// CachedHead is what an INT4 cache keeps of the keys or the values of one token and
// head: group i, of len(Codes)/len(Scales) channels, decodes to
//
//	x'[c] = Offsets[i] + Codes[c]·Scales[i]      asymmetric
//	x'[c] = (Codes[c] - 8)·Scales[i]             symmetric; Offsets is nil
type CachedHead struct {
	Codes           []uint8 // 0..15
	Scales, Offsets []float32
}

// EncodeCached rounds x, a head of one token, by the codecs of package packer.
func EncodeCached(scheme packer.KVScheme, x []float32) CachedHead {
	group := scheme.Group(len(x))
	h := CachedHead{Codes: make([]uint8, len(x))}
	for from := 0; from < len(x); from += group {
		codes, values := h.Codes[from:from+group], x[from:from+group]
		if scheme.Symmetric {
			signed := make([]int8, group)
			h.Scales = append(h.Scales, packer.EncodeKV4(signed, values))
			for i, q := range signed {
				codes[i] = uint8(q + 8)
			}
			continue
		}
		scale, offset := packer.EncodeKV4Asymmetric(codes, values)
		h.Scales, h.Offsets = append(h.Scales, scale), append(h.Offsets, offset)
	}
	return h
}

// Decode writes x'.
func (h CachedHead) Decode(dst []float32) {
	group := len(h.Codes) / len(h.Scales)
	for i, scale := range h.Scales {
		codes, to := h.Codes[i*group:(i+1)*group], dst[i*group:(i+1)*group]
		if h.Offsets != nil {
			packer.DecodeKV4Asymmetric(to, codes, scale, h.Offsets[i])
			continue
		}
		for c, u := range codes {
			to[c] = float32(int(u)-8) * scale
		}
	}
}

// Rotate turns a head by one position: pair i, channels i and i + len/2, or 2i and 2i+1
// where interleaved, is a complex number times cos[i] + sin[i]·√-1. Every product
// and sum is rounded to FP32.
func Rotate(head, cos, sin []float32, interleaved bool) {
	for i := range cos {
		first, second := i, i+len(cos)
		if interleaved {
			first, second = 2*i, 2*i+1
		}
		a, b := head[first], head[second]
		head[first] = float32(a*cos[i]) - float32(b*sin[i])
		head[second] = float32(b*cos[i]) + float32(a*sin[i])
	}
}

// Smooth replaces x by x·scales - means, each step in FP32; nil changes nothing. It is
// what keys (κ and their means) and values (no scales) are cached as.
func Smooth(x, scales, means []float32) {
	for i, s := range scales {
		x[i] = float32(x[i] * s)
	}
	for i, m := range means {
		x[i] -= m
	}
}

// divide replaces x by x/scales: what is done to queries for κ of keys.
func divide(x, scales []float32) {
	for i, s := range scales {
		x[i] /= s
	}
}

// KVQuery returns a query head as the decode kernel multiplies it: q/κ (κ may be
// nil), rounded to E4M3 with one scale where fp8, else to FP16 after a power of two
// that brings the largest magnitude to [2^14, 2^15), and back: BF16 values do not
// change but where they are less than 2^-21 of the largest.
func KVQuery(q, kappa []float32, fp8 bool) []float32 {
	x := slices.Clone(q)
	divide(x, kappa)
	if fp8 {
		codes := make([]uint8, len(x))
		packer.DecodeKV8(x, codes, packer.EncodeQuery8(codes, x))
		return x
	}
	top := 0.0
	for _, v := range x {
		top = math.Max(top, math.Abs(float64(v)))
	}
	if top == 0 {
		return x
	}
	_, exponent := math.Frexp(top) // top is in [2^(exponent-1), 2^exponent)
	for i, v := range x {
		up := float32(math.Ldexp(float64(v), 15-exponent))
		x[i] = float32(math.Ldexp(float64(tensor.F16Value(tensor.F16Bits(up))), exponent-15))
	}
	return x
}

// DecodeAttend is attention of one query head of one token over S cached tokens,
// in float64. q (D) is of KVQuery; keys and values (S, D) are decoded; keyMean and
// valueMean (D) may be nil:
//
//	z[j] = scale·Σ_c q[c]·keys[j,c]       lse = ln Σ_j exp(z[j]) + scale·Σ_c q[c]·keyMean[c]
//	o[c] = Σ_j exp(z[j])·values[j,c] / Σ_j exp(z[j]) + valueMean[c]
//
// Without tokens o is 0 and lse is -Inf.
func DecodeAttend(o []float64, q []float32, keys, values tensor.Matrix, keyMean, valueMean []float32, scale float64) (lse float64) {
	all := kernels.Attention{Keys: keys.Rows} // a query that sees every token
	lse = ExactSoftmax(o, all, 0, 0, 0, func(j int) float64 { return scale * dot(q, keys.Row(j)) }, values.Row)
	if keys.Rows == 0 {
		return lse
	}
	for c, m := range valueMean {
		o[c] += float64(m)
	}
	if keyMean != nil {
		lse += scale * dot(q, keyMean)
	}
	return lse
}
