package main

import (
	"errors"
	"testing"

	"quantize/kernels"
	"quantize/recipe"
)

// A recipe's mode becomes the one of the same name; one that no kernel has is an error.
func TestAttentionModesHaveTheirNames(t *testing.T) {
	t.Parallel()
	modes := 0
	for m := recipe.AttentionMode(0); kernels.AttentionMode(m).Known(); m++ {
		modes++
		if got, err := attentionMode(m); err != nil || got.String() != m.String() {
			t.Errorf("%v became %v (%v)", m, got, err)
		}
	}
	if _, err := attentionMode(recipe.AttentionMode(modes)); !errors.Is(err, recipe.ErrInvalid) {
		t.Errorf("mode %d: error %v, want ErrInvalid", modes, err)
	}
}
