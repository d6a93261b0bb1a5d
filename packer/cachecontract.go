package packer

import (
	"errors"
	"fmt"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
)

// CacheContract gives the scales by which other runtimes compute the FP8 cache that s
// describes: those that a checkpoint stores as k_scale and v_scale, beside a
// kv_cache_scheme. It is nil where s asks for no FP8 cache. It is nil too, and why
// tells the reason, where s does more to keys or values than those scales say: a
// scheme would then make others cache something else.
func (s *Sidecar) CacheContract() (scales []CacheScale, why string) {
	if s == nil || s.KV.Format != KVFP8 {
		return nil, ""
	}
	for _, list := range s.channelLists() {
		if slices.ContainsFunc(*list.layers, func(x []float32) bool { return len(x) > 0 }) {
			return nil, "the FP8 cache stays in " + SidecarPath + " and kv_cache_scheme is null: k_scale and v_scale cannot say " + list.name + " (RoPE or cache smoothing)"
		}
	}
	for layer := range s.KScales {
		scales = append(scales, CacheScale{K: s.KScales[layer : layer+1], V: s.VScales[layer : layer+1]})
	}
	return scales, ""
}

// ReadRuntime reads what is to be done between the linears of a checkpoint: its sidecar
// or, where it has none (others' have none), the FP8 cache that its kv_cache_scheme and
// scales describe; nil: nothing. Scales by head are ErrOption: a sidecar has one a layer.
func ReadRuntime(r *checkpoint.Reader, c *model.Config, q *QuantizationConfig) (*Sidecar, error) {
	s, err := ReadSidecar(r.Dir())
	if s != nil || err != nil {
		return s, err
	}
	scales, err := ReadCacheScales(r, c, q)
	if scales == nil || err != nil {
		return nil, err
	}
	s = &Sidecar{KV: KVScheme{Format: KVFP8}}
	for _, l := range scales {
		if len(l.K) != 1 || len(l.V) != 1 {
			return nil, &fault.Error{
				Err: ErrOption, Where: "config.json quantization_config.kv_cache_scheme", Found: "strategy " + string(StrategyHead), Wanted: "strategy tensor",
				Hint: "this program caches with one scale a layer; with null it runs the same weights with a cache that keeps everything",
			}
		}
		s.KScales, s.VScales = append(s.KScales, l.K[0]), append(s.VScales, l.V[0])
	}
	return s, nil
}

// CheckCacheScales demands that the k_scale and v_scale which q's kv_cache_scheme
// announces are those of the sidecar, to the bit: else our own runs would cache
// otherwise than everybody else's. Without a scheme there is nothing to check.
// Faults are ErrInvalid, and all of them are told.
func CheckCacheScales(r *checkpoint.Reader, c *model.Config, q *QuantizationConfig, s *Sidecar) error {
	got, err := ReadCacheScales(r, c, q)
	if err != nil || got == nil {
		return err
	}
	want, _ := s.CacheContract()
	if len(want) != len(got) {
		return &fault.Error{
			Err: ErrInvalid, Where: "config.json quantization_config.kv_cache_scheme", Found: fmt.Sprintf("an FP8 cache of %d layers", len(got)),
			Wanted: fmt.Sprintf("null or one that %s describes, with k_scale and v_scale alone (%d layers)", SidecarPath, len(want)),
		}
	}
	var faults []error
	for layer := range got {
		k, v := CacheScaleNames(c, layer)
		for _, x := range []struct {
			name      string
			got, want []float32
		}{{k, got[layer].K, want[layer].K}, {v, got[layer].V, want[layer].V}} {
			if !slices.Equal(x.got, x.want) {
				faults = append(faults, &fault.Error{
					Err: ErrInvalid, Where: x.name, Found: fmt.Sprint(x.got), Wanted: fmt.Sprintf("%v, as in %s", x.want, SidecarPath),
				})
			}
		}
	}
	return errors.Join(faults...)
}

// planCache lists the scales of an FP8 cache among the tensors of the output.
func (p *exportPlan) planCache(o *ExportOptions) error {
	if o.CacheScales == nil {
		return nil
	}
	if n := len(o.CacheScales); n != o.Model.Layers {
		return &fault.Error{Err: ErrOption, Where: "cache scales", Found: fmt.Sprintf("%d layers", n), Wanted: fmt.Sprint(o.Model.Layers)}
	}
	for layer, s := range o.CacheScales {
		infos, err := CacheScaleTensors(o.Model, layer, StrategyTensor)
		if err != nil {
			return err
		}
		for i, x := range [][]float32{s.K, s.V} {
			if len(x) != 1 || !positiveScale(x[0]) {
				return &fault.Error{Err: ErrOption, Where: infos[i].Name, Found: fmt.Sprint(x), Wanted: "one finite positive scale"}
			}
		}
		p.tensors = append(p.tensors, infos...)
	}
	p.notes = append(p.notes, "kv_cache_scheme: vLLM caches keys and values in FP8 with the stored scales, whatever --kv-cache-dtype says")
	return nil
}

// isCache reports whether the output has a scale of the cache under name.
func (o *ExportOptions) isCache(name string) bool {
	for layer := range o.CacheScales {
		if k, v := CacheScaleNames(o.Model, layer); name == k || name == v {
			return true
		}
	}
	return false
}

// writeCache writes the scales of the cache.
func (e *exporter) writeCache() error {
	for layer, s := range e.options.CacheScales {
		k, v, err := s.Encode()
		if err != nil {
			return err
		}
		kName, vName := CacheScaleNames(e.options.Model, layer)
		if err := e.writer.Add(kName, k); err != nil {
			return err
		}
		if err := e.writer.Add(vName, v); err != nil {
			return err
		}
	}
	return nil
}
