//go:build cuda

package cuda_test

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/kernels"
	"quantize/kernels/cuda"
	"quantize/kernels/cuda/captured"
	"quantize/kernels/kerneltest"
	"quantize/packer"
	"quantize/tensor"
)

// The suite must not skip what the card can do.
func TestAttention(t *testing.T) {
	ran := kerneltest.RunAttention(t, cuda.NewBackend(open(t)))
	eight := kernels.AttentionFormat{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread, SmoothK: true}
	fp8, smooth, four, turned := eight, eight, eight, eight
	fp8.Mode, smooth.SmoothV, four.Mode, turned.Hadamard = kernels.AttentionFP8, true, kernels.AttentionInt4, true
	cached := func(k packer.KVScheme) kernels.AttentionFormat {
		k.Format, k.FP8Queries = packer.KVInt4, true
		return kernels.AttentionFormat{Mode: kernels.AttentionFP8, KV: k}
	}
	want := []kernels.AttentionFormat{eight, fp8, cached(packer.KVScheme{Symmetric: true}), cached(packer.KVScheme{GroupSize: 32}), smooth, four, turned}
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("formats that ran (-want +got):\n%s", diff)
	}
}

func TestAttentionRefusesWhatItLacks(t *testing.T) {
	b := cuda.NewBackend(open(t))
	good := kernels.Attention{
		Batch: 1, Heads: 1, KVHeads: 1, HeadDim: 64, Queries: 3, Keys: 3, Scale: 1,
		Format: kernels.AttentionFormat{Mode: kernels.AttentionInt8, Granularity: kernels.PerThread},
	}
	for name, edit := range map[string]func(a *kernels.Attention){
		"bf16":  func(a *kernels.Attention) { a.Format = kernels.AttentionFormat{} },
		"block": func(a *kernels.Attention) { a.Format.Granularity = kernels.PerBlock },
		"turned FP8": func(a *kernels.Attention) {
			a.Format.Mode, a.Format.Hadamard = kernels.AttentionFP8, true
		},
		"smooth Q": func(a *kernels.Attention) { a.Format.SmoothQ = true },
		"channels": func(a *kernels.Attention) { a.HeadDim = 96 },
		"mask": func(a *kernels.Attention) {
			a.Mask = &kernels.BlockMask{QueryBlock: 64, KeyBlock: 64, Keep: make([]bool, 1)}
		},
	} {
		a := good
		edit(&a)
		x := tensor.NewMatrix(3, a.HeadDim)
		if err := b.Attention(x, tensor.Matrix{}, x, x, x, a); !errors.Is(err, kernels.ErrUnsupported) {
			t.Errorf("%s: error %v, want ErrUnsupported", name, err)
		}
	}
}

// TestCapturedAttention attends with what a model's layers attend with (mkcaptured); the
// file is named by QUANTIZE_CAPTURED.
func TestCapturedAttention(t *testing.T) {
	file := os.Getenv(captured.File)
	if file == "" {
		t.Skipf("%s is not set", captured.File)
	}
	h, layers, err := captured.Open(file)
	must(t, err)
	captured.Report(t, cuda.NewBackend(open(t)), h, layers)
}
