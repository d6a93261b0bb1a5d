package ref_test

import (
	"testing"

	"quantize/kernels/kerneltest"
	"quantize/kernels/ref"
)

func TestKernels(t *testing.T) {
	t.Parallel()
	kerneltest.Run(t, ref.New())
}

func TestAttention(t *testing.T) {
	t.Parallel()
	kerneltest.RunAttention(t, ref.New())
}
