package ref_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/kernels/kerneltest"
	"quantize/kernels/ref"
)

func TestKernels(t *testing.T) {
	t.Parallel()
	kerneltest.Run(t, ref.New())
}

// The twin has every format.
func TestAttention(t *testing.T) {
	t.Parallel()
	ran := kerneltest.RunAttention(t, ref.New())
	if diff := cmp.Diff(kerneltest.AttentionFormats(), ran); diff != "" {
		t.Errorf("formats that ran (-want +got):\n%s", diff)
	}
}
