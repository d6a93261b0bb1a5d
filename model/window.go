package model

import "fmt"

// The words of layer_types.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// windows decides, by the table's rule, which layers have a sliding window.
func (c *Config) windows(f *fields) {
	rule, def := c.Arch.Window, c.Arch.Defaults
	var types []string
	if f.decode("layer_types", "a list of strings", &types) && len(types) != c.Layers {
		f.fail("layer_types", fmt.Sprintf("%d entries", len(types)), fmt.Sprintf("num_hidden_layers = %d", c.Layers), "")
	}
	if len(f.faults) > 0 {
		return
	}

	window := 0
	switch rule {
	case NoWindow:
	case WindowAll:
		if !f.null("sliding_window") && (f.has("sliding_window") || def.SlidingWindow > 0) {
			window = f.count("sliding_window", def.SlidingWindow, maxPositions)
		}
	case WindowByLayers:
		used := f.flag("use_sliding_window", false)
		if w := def.SlidingWindow; !f.null("sliding_window") {
			if w = f.count("sliding_window", w, maxPositions); used {
				window = w
			}
		}
	}
	f.seen["sliding_window"] = f.seen["sliding_window"] || rule != NoWindow

	c.Sliding = make([]bool, c.Layers)
	from := 0
	if rule == WindowByLayers {
		// A zero is legal here (every layer slides), so count's range does not fit.
		from = def.MaxWindowLayers
		if f.decode("max_window_layers", "an integer from 0", &from) && from < 0 {
			f.fail("max_window_layers", fmt.Sprint(from), "an integer from 0", "")
			return
		}
	}
	for i := range c.Sliding {
		c.Sliding[i] = window > 0 && i >= from
	}
	for i, t := range types {
		sliding := t == slidingAttention
		switch {
		case !sliding && t != fullAttention:
			f.fail("layer_types", fmt.Sprintf("%q in layer %d", t, i), fullAttention+" or "+slidingAttention, "")
			return
		case sliding && window == 0:
			f.fail("layer_types", fmt.Sprintf("%s in layer %d, but no sliding window", t, i), fullAttention, "")
			return
		case rule == WindowAll && sliding != (window > 0):
			// transformers ignores layer_types here; another reader may not.
			f.fail("layer_types", fmt.Sprintf("%s in layer %d", t, i), slidingAttention, "this architecture slides in every layer")
			return
		}
		c.Sliding[i] = sliding
	}
	for _, s := range c.Sliding {
		if s {
			c.SlidingWindow = window
		}
	}
}
