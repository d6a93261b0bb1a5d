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
//	k[h,c] = decode(encode(k[h,:]·κ[h,:]))[c] / κ[h,c]      κ: KeyScales, 1 where there are none
//	v[h,c] = decode(encode(v[h,:]))[c]
//	q[h,c] = decode(encode(q[h,:] / κ[g,:]))[c]·κ[g,c]      FP8Queries; g = h/(Heads/KVHeads)
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
		for m := range k.Rows {
			for h := range c.KVHeads {
				head, kap := k.Row(m)[h*d:(h+1)*d], kappa[h*d:(h+1)*d]
				scaled := make([]float32, d)
				for i := range head {
					scaled[i] = head[i] * kap[i]
				}
				cached(scheme, scaled, s.KScales, layer)
				for i := range head {
					head[i] = scaled[i] / kap[i]
				}
				cached(scheme, v.Row(m)[h*d:(h+1)*d], s.VScales, layer)
			}
			for h := range c.Heads {
				if !scheme.FP8Queries {
					continue
				}
				g := h / (c.Heads / c.KVHeads)
				head, kap := q.Row(m)[h*d:(h+1)*d], kappa[g*d:(g+1)*d]
				scaled, codes := make([]float32, d), make([]uint8, d)
				for i := range head {
					scaled[i] = head[i] / kap[i]
				}
				packer.DecodeKV8(scaled, codes, packer.EncodeQuery8(codes, scaled))
				for i := range head {
					head[i] = scaled[i] * kap[i]
				}
			}
		}
	}, nil
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
			scale, zero := packer.EncodeKV4Asymmetric(codes, x)
			packer.DecodeKV4Asymmetric(x, codes, scale, zero)
		}
	}
}
