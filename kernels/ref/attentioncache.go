package ref

import (
	"quantize/packer"
	"quantize/tensor"
)

// roundCache makes operands of what a quantized cache stores, in the codecs of package
// packer (FireQ, arXiv 2505.20839; docs/methods.md 1.10-1.12; kernels.NewCache has the
// same numbers as a rounding of keys and values):
//
//	q' = q/κ             code = e4m3(q'/δ)     δ = max(max|q'|/448, 2^-126), by token and head
//	k' = k·κ - μk        INT4: code = e4m3(decode(encode(k'))), scale 1      FP8: e4m3(k'/KScale)
//	v' = v - μv          the same, by VScale
//
// κ, μk, μv are KVParams. An INT4 group is expanded to E4M3, as a kernel must that
// multiplies FP8 by FP8: RNE, saturating at 448, which keys and values brought to a
// magnitude of 8 (docs/methods.md 1.9) do not come near. A group that has no scale is NaN.
func (o *AttentionOperands) roundCache() {
	a := o.Attention
	for b := range a.Batch {
		copy(o.KMeans.Row(b), a.KV.KeyMeans)
		copy(o.VMeans.Row(b), a.KV.ValueMeans)
	}
	for j := range o.K.Rows {
		key, value := o.K.Row(j), o.V.Row(j)
		Smooth(key, a.KV.KeyScales, a.KV.KeyMeans)
		o.encodeCached(key, o.KScales.Row(j), a.KV.KScale)
		Smooth(value, nil, a.KV.ValueMeans)
		o.encodeCached(value, nil, a.KV.VScale)
	}
	if a.Format.KV.Format == packer.KVFP8 {
		for i := range o.VScales.Data {
			o.VScales.Data[i] = a.KV.VScale
		}
	}
	d := a.HeadDim
	for i := range o.Q.Rows {
		for h := range a.Heads {
			if kappa := a.KV.KeyScales; len(kappa) > 0 {
				g := h / (a.Heads / a.KVHeads)
				divide(o.Q.Row(i)[h*d:(h+1)*d], kappa[g*d:(g+1)*d])
			}
		}
	}
	for b := range a.Batch {
		o.shift(b, o.Q.RowRange(b*a.Queries, (b+1)*a.Queries))
	}
	codes := make([]uint8, d)
	for i := range o.Q.Rows {
		for h := range a.Heads {
			head := o.Q.Row(i)[h*d : (h+1)*d]
			o.QScales.Row(i)[h] = packer.EncodeQuery8(codes, head)
			packer.DecodeKV8(head, codes, 1)
		}
	}
}

// encodeCached replaces the heads of one token by E4M3 codes, and in FP8 sets scales,
// one a head, to the stored one.
func (o *AttentionOperands) encodeCached(x, scales []float32, stored float32) {
	scheme, d := o.Attention.Format.KV, o.Attention.HeadDim
	if scheme.Format == packer.KVFP8 {
		codes := make([]uint8, len(x))
		packer.EncodeKV8(codes, x, stored)
		packer.DecodeKV8(x, codes, 1)
		for h := range scales {
			scales[h] = stored
		}
		return
	}
	for from := 0; from < len(x); from += d {
		cached(scheme, x[from:from+d], nil, 0)
	}
	for i, v := range x {
		x[i] = tensor.RoundE4M3(v)
	}
}
