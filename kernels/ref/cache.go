package ref

import (
	"quantize/kernels"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// NewCache is the twin of kernels.NewCache: every group is encoded and decoded
// by the codecs of package packer.
//
//	k[h,c] = (decode(encode(k[h,:]·κ[h,:] - μ[h,:]))[c] + μ[h,c]) / κ[h,c]      κ, μ: KeyScales, KeyMeans
//	v[h,c] = decode(encode(v[h,:] - ν[h,:]))[c] + ν[h,c]                        ν: ValueMeans
//	q[h,c] = decode(encode(q[h,:] / κ[g,:]))[c]·κ[g,c]                          FP8Queries; g = h/(Heads/KVHeads)
//
// Where a layer has no scales κ is 1, where it has no means nothing is subtracted or
// added.
func NewCache(scheme packer.KVScheme, s *packer.Sidecar, c *model.Config) (func(layer int, q, k, v tensor.Matrix), error) {
	if err := kernels.CheckCache(scheme, s, c); err != nil {
		return nil, err
	}
	if scheme.Format == packer.KVNone {
		return nil, nil
	}
	if s == nil {
		s = &packer.Sidecar{}
	}
	d := c.HeadDim
	return func(layer int, q, k, v tensor.Matrix) {
		kappa := make([]float32, k.Cols)
		for i := range kappa {
			kappa[i] = 1
			if s.KeyScales != nil && len(s.KeyScales[layer]) > 0 {
				kappa[i] = s.KeyScales[layer][i]
			}
		}
		keyMeans, valueMeans := means(s.KeyMeans, layer), means(s.ValueMeans, layer)
		for m := range k.Rows {
			smoothed(scheme, k.Row(m), kappa, keyMeans, d, s.KScales, layer)
			smoothed(scheme, v.Row(m), nil, valueMeans, d, s.VScales, layer)
			for h := range c.Heads {
				if !scheme.FP8Queries {
					continue
				}
				g := h / (c.Heads / c.KVHeads)
				head, kap := q.Row(m)[h*d:(h+1)*d], kappa[g*d:(g+1)*d]
				copy(head, KVQuery(head, kap, true))
				Smooth(head, kap, nil)
			}
		}
	}, nil
}

// means are those of a layer, nil where there are none.
func means(list [][]float32, layer int) []float32 {
	if list == nil {
		return nil
	}
	return list[layer]
}

// smoothed replaces the heads of a token, d channels each, by what the cache keeps of
// them after [Smooth], whose inverse follows.
func smoothed(scheme packer.KVScheme, x, scales, means []float32, d int, stored []float32, layer int) {
	Smooth(x, scales, means)
	for from := 0; from < len(x); from += d {
		cached(scheme, x[from:from+d], stored, layer)
	}
	for i, m := range means {
		x[i] += m
	}
	divide(x, scales)
}

// cached replaces a head by what the cache keeps of it.
func cached(scheme packer.KVScheme, head, stored []float32, layer int) {
	group := scheme.Group(len(head))
	for from := 0; from < len(head); from += group {
		x := head[from : from+group]
		switch {
		case scheme.Format == packer.KVFP8:
			codes := make([]uint8, group)
			packer.EncodeKV8(codes, x, stored[layer])
			packer.DecodeKV8(x, codes, stored[layer])
		case scheme.Symmetric:
			codes := make([]int8, group)
			packer.DecodeKV4(x, codes, packer.EncodeKV4(codes, x))
		default:
			codes := make([]uint8, group)
			scale, offset := packer.EncodeKV4Asymmetric(codes, x)
			packer.DecodeKV4Asymmetric(x, codes, scale, offset)
		}
	}
}
