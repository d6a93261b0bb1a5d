package packer

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"quantize/model"
	"quantize/tensor"
)

func TestCacheScales(t *testing.T) {
	c := tiny(t, 128, 128, true)
	cfg, err := model.ParseConfig(c.files[configPath])
	if err != nil {
		t.Fatal(err)
	}
	if k, v := CacheScaleNames(cfg, 1); k != "model.layers.1.self_attn.k_scale" || v != "model.layers.1.self_attn.v_scale" {
		t.Errorf("%s, %s", k, v)
	}
	for _, s := range []Strategy{StrategyTensor, StrategyHead} {
		scheme := KVScheme{Format: KVFP8}.CacheScheme()
		scheme.Strategy = s
		q := &QuantizationConfig{KVCacheScheme: scheme}
		want := []CacheScale{{[]float32{0.5}, []float32{0.25}}, {[]float32{2}, []float32{3}}}
		for layer, x := range want {
			infos, err := CacheScaleTensors(cfg, layer, s)
			if err != nil {
				t.Fatal(err)
			}
			k, v, err := x.Encode()
			if err != nil {
				t.Fatal(err)
			}
			c.tensors[infos[0].Name] = part{infos[0].DType, infos[0].Shape, k}
			c.tensors[infos[1].Name] = part{infos[1].DType, infos[1].Shape, v}
		}
		got, err := ReadCacheScales(open(t, c.write(t)), cfg, q)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	r := open(t, c.write(t))
	if s, err := ReadCacheScales(r, cfg, &QuantizationConfig{}); s != nil || err != nil {
		t.Errorf("without a scheme: %v, %v", s, err)
	}
	if _, err := CacheScaleTensors(cfg, 0, StrategyGroup); !errors.Is(err, ErrOption) {
		t.Errorf("groups: %v", err)
	}
}

func TestReadCacheScalesRefuses(t *testing.T) {
	const name = "model.layers.1.self_attn.v_scale"
	for _, c := range []struct {
		what   string
		damage func(c *contents, a *QuantizationArgs)
		says   string
	}{
		{"a missing one", func(c *contents, _ *QuantizationArgs) { delete(c.tensors, name) }, name},
		{"zero", func(c *contents, _ *QuantizationArgs) { c.tensors[name] = part{tensor.F32, []int{1}, make([]byte, 4)} }, "found 0"},
		{"two", func(c *contents, _ *QuantizationArgs) { c.tensors[name] = ones(2) }, "[2]"},
		{"integers", func(c *contents, _ *QuantizationArgs) { c.tensors[name] = part{tensor.I32, []int{1}, make([]byte, 4)} }, "I32"},
		{"INT8", func(_ *contents, a *QuantizationArgs) { a.Type = TypeInt }, "int8"},
		{"a scale a channel", func(_ *contents, a *QuantizationArgs) { a.Strategy = StrategyChannel }, "channel"},
		{"dynamic scales", func(_ *contents, a *QuantizationArgs) { a.Dynamic = DynamicYes }, "dynamic true"},
	} {
		made := damageable(t, W4A8, GridLUT)
		cached(made)
		cfg, err := model.ParseConfig(made.files[configPath])
		if err != nil {
			t.Fatal(err)
		}
		a := KVScheme{Format: KVFP8}.CacheScheme()
		c.damage(made, a)
		if _, err := ReadCacheScales(open(t, made.write(t)), cfg, &QuantizationConfig{KVCacheScheme: a}); !errors.Is(err, ErrInvalid) && err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
