package kernels

import (
	"fmt"
	"math"
	"slices"

	"quantize/internal/fault"
	"quantize/model"
	"quantize/packer"
)

// CheckCache is the first step of every NewCache: it checks scheme and sidecar
// against the model. An FP8 cache has neither key scales nor key means
// (packer.ErrOption): the runtimes that keep one, vLLM first, apply k_scale to the
// keys and nothing to the queries.
func CheckCache(scheme packer.KVScheme, s *packer.Sidecar, c *model.Config) error {
	if err := scheme.Validate(c.HeadDim); err != nil {
		return err
	}
	if s == nil {
		s = &packer.Sidecar{}
	}
	for _, list := range []struct {
		name    string
		layers  [][]float32
		ok      func(float32) bool
		numbers string
	}{
		{"key_scale", s.KeyScales, positive, "positive"},
		{"key_mean", s.KeyMeans, finite, "finite"},
		{"value_mean", s.ValueMeans, finite, "finite"},
	} {
		if err := checkChannels(list.name, list.layers, c, list.ok, list.numbers); err != nil {
			return err
		}
	}
	if scheme.Format != packer.KVFP8 {
		return nil
	}
	for _, list := range []struct {
		name   string
		layers [][]float32
	}{{"key_scale", s.KeyScales}, {"key_mean", s.KeyMeans}} {
		if slices.ContainsFunc(list.layers, func(x []float32) bool { return len(x) > 0 }) {
			return &fault.Error{
				Err: packer.ErrOption, Where: "fp8 cache", Found: list.name + " of its keys", Wanted: "k_scale alone",
				Hint: "runtimes apply nothing else to an FP8 cache: turn off scaling after rotary embedding and smoothing of keys, or cache in int4",
			}
		}
	}
	const names = "k_scale, v_scale"
	switch {
	case len(s.KScales) != c.Layers || len(s.VScales) != c.Layers:
		return otherSidecar(names, fmt.Sprintf("%d and %d layers", len(s.KScales), len(s.VScales)), fmt.Sprintf("%d layers", c.Layers))
	case !all(s.KScales, positive) || !all(s.VScales, positive):
		return otherSidecar(names, "a number that is not positive", "positive ones")
	}
	return nil
}

// checkChannels checks a list with one number for every channel of every layer.
func checkChannels(name string, list [][]float32, c *model.Config, ok func(float32) bool, numbers string) error {
	if n := len(list); n != 0 && n != c.Layers {
		return otherSidecar(name, fmt.Sprintf("%d layers", n), fmt.Sprintf("%d layers", c.Layers))
	}
	for layer, x := range list {
		where := fmt.Sprintf("layers.%d.%s", layer, name)
		if n := len(x); n != 0 && n != c.KVHeads*c.HeadDim {
			return otherSidecar(where, fmt.Sprintf("%d channels", n), fmt.Sprint(c.KVHeads*c.HeadDim))
		}
		if !all(x, ok) {
			return otherSidecar(where, "a number that is not "+numbers, numbers+" ones")
		}
	}
	return nil
}

func otherSidecar(what, found, wanted string) error {
	return &fault.Error{Err: packer.ErrInvalid, Where: packer.SidecarPath + " " + what, Found: found, Wanted: wanted, Hint: "it belongs to another model"}
}

func all(x []float32, ok func(float32) bool) bool {
	return !slices.ContainsFunc(x, func(v float32) bool { return !ok(v) })
}

func positive(v float32) bool { return v > 0 && v <= math.MaxFloat32 }

func finite(v float32) bool { return v >= -math.MaxFloat32 && v <= math.MaxFloat32 }
