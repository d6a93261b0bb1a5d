package packer

import "fmt"

// cache demands scales of the FP8 cache in every layer exactly where config.json
// has a kv_cache_scheme: without them vLLM caches with scale 1, without the scheme
// it reads and ignores them (docs/formats.md 6). Beside a sidecar they must be its.
func (v *verifier) cache() {
	var bad []string
	detail := "no kv_cache_scheme, no scales"
	for layer := range v.config.Layers {
		if v.quant.KVCacheScheme != nil {
			break
		}
		k, vv := CacheScaleNames(v.config, layer)
		for _, name := range []string{k, vv} {
			if v.r.Has(name) {
				bad = append(bad, name+": found a cache scale, wanted none without kv_cache_scheme (runtimes ignore it)")
			}
		}
	}
	if s := v.quant.KVCacheScheme; s != nil {
		detail = fmt.Sprintf("FP8 cache, scales of %d layers by %s", v.config.Layers, s.Strategy)
		if err := s.checkCache(); err != nil {
			bad = append(bad, err.Error())
		} else {
			bad = append(bad, v.cacheScales(s.Strategy)...)
			// One that cannot be read is told by attention.
			if sidecar, err := ReadSidecar(v.r.Dir()); len(bad) == 0 && err == nil && sidecar != nil {
				if err := CheckCacheScales(v.r, v.config, v.quant, sidecar); err != nil {
					bad = append(bad, faults(err)...)
				}
			}
		}
	}
	v.item(ItemCache, detail, bad)
}

func (v *verifier) cacheScales(s Strategy) (bad []string) {
	for layer := range v.config.Layers {
		infos, err := CacheScaleTensors(v.config, layer, s)
		if err != nil {
			return []string{err.Error()}
		}
		for _, want := range infos {
			if !v.r.Has(want.Name) {
				bad = append(bad, want.Name+": found no cache scale, wanted one beside kv_cache_scheme (vLLM would use 1.0)")
			} else if _, err := readCacheScale(v.r, want); err != nil {
				bad = append(bad, err.Error())
			}
		}
	}
	return bad
}

// isCacheScale reports whether a tensor is a scale that cache looks at.
func (v *verifier) isCacheScale(name string) bool {
	for layer := range v.config.Layers {
		if k, vv := CacheScaleNames(v.config, layer); name == k || name == vv {
			return true
		}
	}
	return false
}
