package format

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"quantize/checkpoint"
	"quantize/packer"
	"quantize/tensor"
)

// plan lists the tensors of the output before any weight is read.
func (c *converter) plan() error {
	if routers := packer.Routers(c.Model); len(routers) > 0 && c.to == (W4A8AWQ{}) {
		return refuse("modelopt W4A8_AWQ", "experts behind "+routers[0], "dense layers",
			"its static scales need activations of every expert, and no reader of such experts was found to compare with: use gptq or awq, or the weight-only w4a16/config.json")
	}
	if s, err := packer.ReadSidecar(c.Dir()); err != nil {
		return err
	} else if s != nil && s.Down != "" {
		return refuse(packer.SidecarPath, "an input of down that is rotated at run time", "none",
			"no other format can say it, and its readers would compute something else: quantize without rotation.down")
	}
	if err := c.needsActivations(); err != nil {
		return err
	}
	replaced := map[string]bool{}
	for _, l := range c.Quantized {
		for _, field := range c.Format.Fields(l.N, l.K) {
			replaced[l.Name+field.Suffix] = true
		}
		c.tensors = append(c.tensors, c.layout(l)...)
	}
	if err := c.cache(replaced); err != nil {
		return err
	}
	for _, name := range c.Names() {
		if replaced[name] {
			continue
		}
		info, err := c.Info(name)
		if err != nil {
			return err
		}
		c.copies = append(c.copies, name)
		c.tensors = append(c.tensors, info)
	}
	if c.to == (W4A8AWQ{}) {
		if err := c.findLargest(); err != nil {
			return err
		}
	}
	c.remarks()
	return nil
}

// layout lists the tensors that a linear becomes. pre_quant_scale is demanded
// where runtimes do not merge layers, and has the type of the activations.
func (c *converter) layout(l packer.LinearShape) []checkpoint.Info {
	var out []checkpoint.Info
	for _, field := range c.to.Fields(l.N, l.K) {
		d := field.DTypes[0]
		if field.Suffix == ".pre_quant_scale" {
			if _, fused := packer.FusedName(l.Name); fused {
				continue
			}
			d = c.modelDType()
		}
		out = append(out, checkpoint.Info{Name: l.Name + field.Suffix, DType: d, Shape: field.Shape})
	}
	return out
}

// findLargest finds the largest group scale of each layer as runtimes merge them.
func (c *converter) findLargest() error {
	c.scales = map[string]float32{}
	for _, l := range c.Quantized {
		layer, _ := packer.FusedName(l.Name)
		scales, err := c.Matrix(l.Name + ".weight_scale")
		if err != nil {
			return err
		}
		c.scales[layer] = max(c.scales[layer], slices.Max(scales.Data))
	}
	return nil
}

// cacheScale is a scale of an FP8 cache on its way.
type cacheScale struct {
	to    string
	value float32
}

// cache carries the scales of an FP8 cache over where both formats have a place
// for them, one a layer: attention's k_scale in compressed-tensors, k_proj's in
// modelopt. GPTQ and AWQ have none, so there they are left out, and said to be.
func (c *converter) cache(replaced map[string]bool) error {
	var dropped int
	for layer := range c.Model.Layers {
		k, v := packer.CacheScaleNames(c.Model, layer)
		for _, ours := range []string{k, v} {
			theirs := modeloptCacheName(ours)
			from, to := ours, theirs
			if c.Format.Name() == "modelopt" {
				from, to = theirs, ours
			}
			if !c.Has(from) {
				continue
			}
			replaced[from] = true
			if c.to.Name() != "modelopt" && c.to.Name() != packer.QuantMethod {
				dropped++
				continue
			}
			x, err := c.Matrix(from)
			if err != nil {
				return err
			}
			if len(x.Data) != 1 {
				return refuse(from, fmt.Sprintf("%d scales", len(x.Data)), "one for all heads", "")
			}
			c.kv = append(c.kv, cacheScale{to, x.Data[0]})
			shape := []int{}
			if to == ours {
				shape = []int{1}
			}
			c.tensors = append(c.tensors, checkpoint.Info{Name: to, DType: tensor.F32, Shape: shape})
		}
	}
	if dropped > 0 {
		c.notes = append(c.notes, fmt.Sprintf("%d scales of the FP8 cache are left out: %s has no place for them", dropped, c.to.Name()))
	}
	if len(c.kv) > 0 && len(c.kv) != 2*c.Model.Layers {
		return invalid("cache scales", fmt.Sprint(len(c.kv)), fmt.Sprintf("two for each of the %d layers, or none", c.Model.Layers))
	}
	return nil
}

// modeloptCacheName turns "...self_attn.k_scale" into "...self_attn.k_proj.k_scale".
func modeloptCacheName(name string) string {
	dot := strings.LastIndexByte(name, '.') + 1
	return name[:dot] + name[dot:dot+1] + "_proj." + name[dot:]
}

// remarks tells what the target computes otherwise.
func (c *converter) remarks() {
	if _, err := os.Stat(filepath.Join(c.Dir(), filepath.FromSlash(packer.SidecarPath))); err == nil {
		c.notes = append(c.notes, packer.SidecarPath+" is left out: only our own runtime reads it")
	}
	_, from, _, _ := kind(c.Format)
	_, to, _, _ := kind(c.to)
	switch {
	case from && !to:
		c.notes = append(c.notes, "activations stay in 16 bits: the weights are those of the weight-only configuration")
	case from && c.to == (W4A8AWQ{}):
		c.notes = append(c.notes, "activations are rounded to FP8 with one scale a layer, found beforehand, and no longer one for each token")
	case c.Format == (W4A8AWQ{}):
		c.notes = append(c.notes, "static activation scales are left out: each token gets its own at run time")
	}
}
