package packer

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

// StrategyHead is one scale for each key-value head.
const StrategyHead Strategy = "attn_head"

// CacheScale holds the scales of one layer's FP8 cache: cached = e4m3(x/scale),
// keys after rotary embedding. One for all heads (strategy "tensor"), or one for
// each key-value head ("attn_head"). (docs/formats.md 6.2)
type CacheScale struct {
	K, V []float32
}

// CacheScaleNames returns the tensors that hold the cache scales of a layer:
// k_scale and v_scale of its attention module.
func CacheScaleNames(c *model.Config, layer int) (k, v string) {
	attention := attentionModule(c, layer)
	return attention + ".k_scale", attention + ".v_scale"
}

func attentionModule(c *model.Config, layer int) string {
	for _, l := range c.Arch.Linears {
		if l.Role == model.RoleQ {
			return fmt.Sprintf("%s%d.%s", c.Arch.Layers, layer, l.Name[:strings.LastIndexByte(l.Name, '.')])
		}
	}
	panic("packer: an architecture without queries")
}

// CacheScaleTensors lists the tensors of one layer: F32, [1] or (KVHeads, 1, 1).
// Another strategy is ErrOption.
func CacheScaleTensors(c *model.Config, layer int, s Strategy) ([]checkpoint.Info, error) {
	shape := []int{1}
	switch s {
	case StrategyTensor:
	case StrategyHead:
		shape = []int{c.KVHeads, 1, 1}
	default:
		return nil, &fault.Error{Err: ErrOption, Where: "cache scales", Found: "strategy " + string(s), Wanted: "tensor or attn_head"}
	}
	k, v := CacheScaleNames(c, layer)
	return []checkpoint.Info{{Name: k, DType: tensor.F32, Shape: shape}, {Name: v, DType: tensor.F32, Shape: slices.Clone(shape)}}, nil
}

// Encode gives the bytes of the two tensors, keys first.
func (s CacheScale) Encode() (k, v []byte, err error) {
	encode := func(x []float32) []byte {
		out := make([]byte, 4*len(x))
		if e := tensor.Encode(out, x, tensor.F32); e != nil {
			err = e
		}
		return out
	}
	return encode(s.K), encode(s.V), err
}

// ReadCacheScales reads the cache scales of every layer as q's kv_cache_scheme
// describes them; nil when there is no scheme. A missing scale, which vLLM would
// take for 1, one that is not positive and a scheme that no runtime runs are
// ErrInvalid.
func ReadCacheScales(r *checkpoint.Reader, c *model.Config, q *QuantizationConfig) ([]CacheScale, error) {
	if q == nil || q.KVCacheScheme == nil {
		return nil, nil
	}
	if err := q.KVCacheScheme.checkCache(); err != nil {
		return nil, err
	}
	scales := make([]CacheScale, c.Layers)
	for layer := range scales {
		infos, err := CacheScaleTensors(c, layer, q.KVCacheScheme.Strategy)
		if err != nil {
			return nil, err
		}
		for i, want := range infos {
			x, err := readCacheScale(r, want)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				scales[layer].K = x
			} else {
				scales[layer].V = x
			}
		}
	}
	return scales, nil
}

func readCacheScale(r *checkpoint.Reader, want checkpoint.Info) ([]float32, error) {
	info, err := r.Info(want.Name)
	if err != nil {
		return nil, err
	}
	scalar := len(want.Shape) == 1 && len(info.Shape) == 0
	if !info.DType.IsFloat() || !scalar && !slices.Equal(info.Shape, want.Shape) {
		return nil, badTensor(info, describeInfo(want))
	}
	raw, err := r.Raw(want.Name, nil)
	if err != nil {
		return nil, err
	}
	x := make([]float32, info.Elements())
	if err := tensor.Decode(x, raw, info.DType); err != nil {
		return nil, err
	}
	for i, s := range x {
		if !positiveScale(s) {
			return nil, &fault.Error{Err: ErrInvalid, Where: fmt.Sprintf("%s element %d", want.Name, i), Found: fmt.Sprint(s), Wanted: "a finite positive scale"}
		}
	}
	return x, nil
}

func positiveScale(s float32) bool { return s > 0 && s <= math.MaxFloat32 }

// checkCache demands what vLLM demands of a kv_cache_scheme.
func (a *QuantizationArgs) checkCache() error {
	if a.Type != TypeFloat || a.NumBits != 8 || !a.Symmetric || a.Dynamic != DynamicNo || a.Strategy != StrategyTensor && a.Strategy != StrategyHead {
		return badConfig("quantization_config.kv_cache_scheme", fmt.Sprintf("%s%d %s, symmetric %v, dynamic %s", a.Type, a.NumBits, a.Strategy, a.Symmetric, a.Dynamic),
			"float8 tensor or attn_head, symmetric, static")
	}
	return nil
}
