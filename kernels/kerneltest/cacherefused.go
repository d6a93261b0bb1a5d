package kerneltest

import (
	"errors"
	"math"
	"strings"
	"testing"

	"quantize/model"
	"quantize/packer"
)

func runCacheRefused(t *testing.T, newCache CacheMaker) {
	t.Helper()
	c := &model.Config{Layers: 2, Heads: 2, KVHeads: 2, HeadDim: 64}
	int4, fp8 := packer.KVScheme{Format: packer.KVInt4}, packer.KVScheme{Format: packer.KVFP8}
	ones, nan := []float32{1, 1}, float32(math.NaN())
	channels := func(last float32) [][]float32 {
		x := make([]float32, c.KVHeads*c.HeadDim)
		for i := range x {
			x[i] = 1
		}
		x[len(x)-1] = last
		return [][]float32{nil, x}
	}
	for name, b := range map[string]struct {
		scheme packer.KVScheme
		s      *packer.Sidecar
		want   error
		text   string
	}{
		"group that does not divide":  {packer.KVScheme{Format: packer.KVInt4, GroupSize: 48}, nil, packer.ErrOption, "48"},
		"fp8 without scales":          {fp8, nil, packer.ErrInvalid, "k_scale"},
		"fp8 of fewer layers":         {fp8, &packer.Sidecar{KScales: ones[:1], VScales: ones[:1]}, packer.ErrInvalid, "k_scale"},
		"values without scales":       {fp8, &packer.Sidecar{KScales: ones}, packer.ErrInvalid, "v_scale"},
		"scale of zero":               {fp8, &packer.Sidecar{KScales: ones, VScales: []float32{1, 0}}, packer.ErrInvalid, "v_scale"},
		"key scales of other layers":  {int4, &packer.Sidecar{KeyScales: make([][]float32, 3)}, packer.ErrInvalid, "key_scale"},
		"key scales of other heads":   {int4, &packer.Sidecar{KeyScales: [][]float32{nil, ones}}, packer.ErrInvalid, "layers.1.key_scale"},
		"key scale not a number":      {int4, &packer.Sidecar{KeyScales: channels(nan)}, packer.ErrInvalid, "layers.1.key_scale"},
		"key scale of zero":           {int4, &packer.Sidecar{KeyScales: channels(0)}, packer.ErrInvalid, "layers.1.key_scale"},
		"key means of other layers":   {int4, &packer.Sidecar{KeyMeans: make([][]float32, 1)}, packer.ErrInvalid, "key_mean"},
		"value means of other layers": {int4, &packer.Sidecar{ValueMeans: make([][]float32, 3)}, packer.ErrInvalid, "value_mean"},
		"key means of other heads":    {int4, &packer.Sidecar{KeyMeans: [][]float32{ones, nil}}, packer.ErrInvalid, "layers.0.key_mean"},
		"value mean not a number":     {int4, &packer.Sidecar{ValueMeans: channels(nan)}, packer.ErrInvalid, "layers.1.value_mean"},
		"infinite key mean":           {int4, &packer.Sidecar{KeyMeans: channels(float32(math.Inf(-1)))}, packer.ErrInvalid, "layers.1.key_mean"},
		"fp8 with key scales":         {fp8, &packer.Sidecar{KeyScales: channels(1), KScales: ones, VScales: ones}, packer.ErrOption, "key_scale"},
		"fp8 with key means":          {fp8, &packer.Sidecar{KeyMeans: channels(1), KScales: ones, VScales: ones}, packer.ErrOption, "key_mean"},
		"fp8, value means, one layer": {fp8, &packer.Sidecar{ValueMeans: make([][]float32, 1), KScales: ones, VScales: ones}, packer.ErrInvalid, "value_mean"},
	} {
		if _, err := newCache(b.scheme, b.s, c); !errors.Is(err, b.want) || !strings.Contains(err.Error(), b.text) {
			t.Errorf("%s: error %v, want %v with %q", name, err, b.want, b.text)
		}
	}
	for name, s := range map[string]*packer.Sidecar{
		"means of zero and below":   {KeyMeans: channels(-3), ValueMeans: channels(0)},
		"lists of layers with none": {KeyScales: make([][]float32, 2), KeyMeans: make([][]float32, 2), ValueMeans: make([][]float32, 2)},
	} {
		if _, err := newCache(int4, s, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f, err := newCache(packer.KVScheme{}, nil, c); f != nil || err != nil {
		t.Errorf("a cache that keeps everything: function %t, error %v", f != nil, err)
	}
}
