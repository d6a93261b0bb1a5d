package packer

import (
	"fmt"
	"math"

	"quantize/internal/fault"
)

// check demands a scheme, the scales that it needs and no others, lists of as many
// layers, and numbers of the right kind.
func (s *Sidecar) check() error {
	if err := s.KV.check(); err != nil {
		return err
	}
	option := func(found, wanted string) error {
		return &fault.Error{Err: ErrOption, Where: SidecarPath, Found: found, Wanted: wanted}
	}
	if s.Down != "" && s.Down != DownHadamard {
		return option(fmt.Sprintf("rotation of down %q", s.Down), fmt.Sprintf("%q or none", DownHadamard))
	}
	if fp8 := s.KV.Format == KVFP8; fp8 != (len(s.KScales) > 0) || len(s.VScales) != len(s.KScales) {
		return option(fmt.Sprintf("a cache in %s with scales of %d and %d layers", s.KV.Format, len(s.KScales), len(s.VScales)), "both with fp8, else none")
	}
	layers := len(s.KScales)
	if s.Plan != nil {
		if err := s.Plan.check(); err != nil {
			return err
		}
		if n := len(s.Plan.Layers); layers == 0 {
			layers = n
		} else if n != layers {
			return option(fmt.Sprintf("an attention plan of %d layers beside scales of %d", n, layers), "as many")
		}
	}
	for _, list := range s.channelLists() {
		n := len(*list.layers)
		if layers == 0 {
			layers = n
		}
		if n != 0 && n != layers {
			return option(fmt.Sprintf("%ss of %d layers beside others of %d", list.name, n, layers), "as many")
		}
		for layer, x := range *list.layers {
			if len(x) > maxSidecarChannels {
				return option(fmt.Sprintf("%d channels of layers.%d.%s", len(x), layer, list.name), fmt.Sprintf("at most %d", maxSidecarChannels))
			}
		}
	}
	if layers > maxSidecarLayers {
		return option(fmt.Sprintf("%d layers", layers), fmt.Sprintf("at most %d", maxSidecarLayers))
	}
	for _, part := range s.parts() {
		for j, v := range part.data {
			wanted := ""
			switch {
			case part.mean && !(math.Abs(float64(v)) <= math.MaxFloat32):
				wanted = "a finite number"
			case !part.mean && !(v >= 0x1p-126 && v <= math.MaxFloat32):
				wanted = "a positive number that is normal in FP32"
			default:
				continue
			}
			return &fault.Error{
				Err: ErrInvalid, Where: fmt.Sprintf("%s %s element %d", SidecarPath, part.name, j), Found: fmt.Sprint(v), Wanted: wanted,
			}
		}
	}
	return nil
}

// channelList is one of the lists with a number for every channel of a layer.
type channelList struct {
	name   string // of its tensors, behind the layer
	mean   bool   // may be zero or negative
	layers *[][]float32
}

// channelLists are in the order of the file.
func (s *Sidecar) channelLists() []channelList {
	return []channelList{
		{"key_scale", false, &s.KeyScales}, {"key_mean", true, &s.KeyMeans}, {"value_mean", true, &s.ValueMeans},
	}
}

// sidecarPart is one tensor of the file.
type sidecarPart struct {
	name string
	mean bool
	data []float32
}

// parts lists the tensors in the order of the file.
func (s *Sidecar) parts() []sidecarPart {
	var parts []sidecarPart
	for _, list := range s.channelLists() {
		for layer, x := range *list.layers {
			if len(x) > 0 {
				parts = append(parts, sidecarPart{fmt.Sprintf("layers.%d.%s", layer, list.name), list.mean, x})
			}
		}
	}
	for layer := range s.KScales {
		parts = append(parts,
			sidecarPart{fmt.Sprintf("layers.%d.k_scale", layer), false, s.KScales[layer : layer+1]},
			sidecarPart{fmt.Sprintf("layers.%d.v_scale", layer), false, s.VScales[layer : layer+1]})
	}
	return parts
}
