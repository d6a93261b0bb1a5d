package packer

import (
	"errors"
	"strings"
	"testing"

	"quantize/model"
)

// An export with cache scales has the tensors and the scheme in every configuration,
// and is what its sidecar says.
func TestExportCacheScales(t *testing.T) {
	t.Parallel()
	side := &Sidecar{KV: KVScheme{Format: KVFP8}, KScales: []float32{0.5, 0.3}, VScales: []float32{2, 0.125}}
	for _, s := range []Scheme{W4A8, W4A16, FP8} {
		source := tiny(t, 128, 128, true)
		source.tensors["model.layers.0.self_attn.k_scale"] = ones(1) // of another cache
		r := open(t, source.write(t))
		o := options(t, r, s)
		var why string
		if o.CacheScales, why = side.CacheContract(); why != "" {
			t.Fatal(why)
		}
		data, err := EncodeSidecar(side)
		if err != nil {
			t.Fatal(err)
		}
		o.Files = map[string][]byte{SidecarPath: data}
		out := t.TempDir()
		if _, err := Export(t.Context(), r, out, o); err != nil {
			t.Fatal(err)
		}
		demandOK(t, out)
		written := open(t, out)
		for _, rel := range []string{configPath, weightOnlyPath} {
			config, ok := load(t, out).files[rel]
			if !ok && rel == weightOnlyPath && s != W4A8 {
				continue
			}
			q, err := ParseQuantizationConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			if q.KVCacheScheme == nil {
				t.Fatalf("%v %s: no kv_cache_scheme", s, rel)
			}
			if err := CheckCacheScales(written, o.Model, q, side); err != nil {
				t.Errorf("%v %s: %v", s, rel, err)
			}
		}
	}
}

func TestExportRefusesCacheScales(t *testing.T) {
	t.Parallel()
	r := open(t, tiny(t, 128, 128, true).write(t))
	for says, scales := range map[string][]CacheScale{
		"1 layers":    {{K: []float32{1}, V: []float32{1}}},
		"0.self_attn": {{K: []float32{1}, V: []float32{0}}, {K: []float32{1}, V: []float32{1}}},
		"1.self_attn": {{K: []float32{1}, V: []float32{1}}, {K: []float32{1, 1}, V: []float32{1}}},
	} {
		o := options(t, r, W4A8)
		o.CacheScales = scales
		if _, err := Export(t.Context(), r, t.TempDir(), o); !errors.Is(err, ErrOption) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// What k_scale and v_scale cannot say keeps the scheme out.
func TestCacheContract(t *testing.T) {
	fp8 := Sidecar{KV: KVScheme{Format: KVFP8}, KScales: []float32{1}, VScales: []float32{2}}
	channels := [][]float32{{1, 1}}
	with := func(change func(s *Sidecar)) *Sidecar { s := fp8; change(&s); return &s }
	for name, c := range map[string]struct {
		s      *Sidecar
		layers int
		says   string
	}{
		"no sidecar":  {nil, 0, ""},
		"int4":        {&Sidecar{KV: KVScheme{Format: KVInt4}}, 0, ""},
		"fp8":         {&fp8, 1, ""},
		"key scales":  {with(func(s *Sidecar) { s.KeyScales = channels }), 0, "key_scale"},
		"key means":   {with(func(s *Sidecar) { s.KeyMeans = channels }), 0, "key_mean"},
		"value means": {with(func(s *Sidecar) { s.ValueMeans = channels }), 0, "value_mean"},
	} {
		scales, why := c.s.CacheContract()
		if len(scales) != c.layers || !strings.Contains(why, c.says) || (c.says == "") != (why == "") {
			t.Errorf("%s: %v, %q", name, scales, why)
		}
	}
}

// Scales by head have no place in a sidecar, and that is said.
func TestScalesByHeadAreRefused(t *testing.T) {
	t.Parallel()
	made := tiny(t, 128, 128, true)
	cfg, err := model.ParseConfig(made.files[configPath])
	if err != nil {
		t.Fatal(err)
	}
	two := *cfg
	two.KVHeads = 2
	scheme := KVScheme{Format: KVFP8}.CacheScheme()
	scheme.Strategy = StrategyHead
	for layer := range cfg.Layers {
		infos, err := CacheScaleTensors(&two, layer, StrategyHead)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range infos {
			made.tensors[info.Name] = part{info.DType, info.Shape, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}}
		}
	}
	_, err = ReadRuntime(open(t, made.write(t)), &two, &QuantizationConfig{KVCacheScheme: scheme})
	if !errors.Is(err, ErrOption) || !strings.Contains(err.Error(), "attn_head") {
		t.Errorf("error %v", err)
	}
}
