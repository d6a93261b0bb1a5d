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
