package packer

import "fmt"

// attention demands a sidecar, where there is one, that can be read and whose attention
// plan is of as many layers as the model has.
func (v *verifier) attention() {
	s, err := ReadSidecar(v.r.Dir())
	switch {
	case err != nil:
		v.item(ItemAttention, "", []string{err.Error()})
	case s == nil:
		v.item(ItemAttention, "no sidecar", nil)
	case s.Plan == nil:
		v.item(ItemAttention, fmt.Sprintf("cache %v, no plan", s.KV), nil)
	default:
		var bad []string
		if n := len(s.Plan.Layers); n != v.config.Layers {
			bad = []string{fmt.Sprintf("%s: found an attention plan of %d layers, wanted %d", SidecarPath, n, v.config.Layers)}
		}
		v.item(ItemAttention, fmt.Sprintf("cache %v, %v", s.KV, s.Plan), bad)
	}
}
