package kerneltest

import (
	"testing"

	"quantize/kernels"
	"quantize/model"
)

// Run runs the whole suite against b as subtests of t.
func Run(t *testing.T, b kernels.Backend) {
	t.Helper()
	t.Run("linear", func(t *testing.T) { runLinear(t, b) })
	t.Run("int4", func(t *testing.T) { runInt4(t, b) })
	t.Run("fp8", func(t *testing.T) { runFP8(t, b) })
	t.Run("token", func(t *testing.T) { runToken(t, b) })
	t.Run("refused", func(t *testing.T) { runRefused(t, b) })
	t.Run("attend", func(t *testing.T) { runAttend(t, b) })
	t.Run("concurrent", func(t *testing.T) { runConcurrent(t, b) })
	if e, ok := b.(model.Elementwise); ok {
		t.Run("elementwise", func(t *testing.T) { runElementwise(t, e) })
	}
	if h, ok := b.(rotator); ok {
		t.Run("hadamard", func(t *testing.T) { runHadamard(t, h) })
	}
}
