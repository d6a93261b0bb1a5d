package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"quantize/recipe"
)

// recipeFlags say what quantizing is to do: run and plan have them alike.
type recipeFlags struct {
	recipe, scheme, kv, memory string
}

func (o *recipeFlags) addTo(c *cobra.Command) {
	c.Flags().StringVar(&o.recipe, "recipe", "rtn", "`NAME` of a built-in recipe (quantize recipe list) or YAML file")
	c.Flags().StringVar(&o.scheme, "scheme", "", "W4A8_FP8, W4A16 or FP8_DYNAMIC in the place of the recipe's own")
	c.Flags().StringVar(&o.kv, "kv", "", "none, fp8 or int4 (groups of 32, means taken off) in the place of the recipe's key-value cache")
	c.Flags().StringVar(&o.memory, "memory", "", "memory for the hidden states of the calibration text, like 4G or 512MiB; what is beyond goes to a file beside OUT (default no bound)")
}

// load reads the recipe and puts what the flags say in the place of its own; memory
// is in bytes, 0 for no bound.
func (o *recipeFlags) load() (r *recipe.Recipe, memory int64, err error) {
	if r, err = recipe.Load(o.recipe); err != nil {
		return nil, 0, err
	}
	if o.scheme != "" {
		var s recipe.Scheme
		if err := s.UnmarshalText([]byte(o.scheme)); err != nil {
			return nil, 0, &usageError{fmt.Errorf("--scheme: %w", err)}
		}
		r = r.WithScheme(s)
	}
	if o.kv != "" {
		kv, ok := map[string]recipe.KV{
			"none": {}, "fp8": {Format: recipe.KVFP8}, "int4": {Format: recipe.KVInt4, GroupSize: 32, Smooth: true},
		}[o.kv]
		if !ok {
			return nil, 0, &usageError{fmt.Errorf("--kv: found %q, wanted none, fp8 or int4", o.kv)}
		}
		r = r.WithKV(kv)
	}
	if memory, err = parseSize("--memory", o.memory); err != nil {
		return nil, 0, err
	}
	return r, memory, r.Validate()
}
