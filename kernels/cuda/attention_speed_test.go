//go:build cuda

package cuda_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"quantize/kernels"
	"quantize/kernels/cuda"
)

// TestAttentionSpeed times the prefill kernels and writes JSON to the file that
// QUANTIZE_ATTENTION names; without it nothing runs. QUANTIZE_HADAMARD=1: INT8 queries
// and keys are turned.
func TestAttentionSpeed(t *testing.T) {
	out := os.Getenv("QUANTIZE_ATTENTION")
	if out == "" {
		t.Skip("QUANTIZE_ATTENTION is not set")
	}
	var all []*cuda.AttentionTiming
	must(t, open(t).Run(func(s *cuda.Session) error {
		for _, shape := range cuda.AttentionShapes {
			for _, mode := range []kernels.AttentionMode{kernels.AttentionInt8, kernels.AttentionFP8} {
				b, err := s.NewAttentionBench(shape, kernels.AttentionFormat{
					Mode: mode, Granularity: kernels.PerThread, SmoothK: true, Hadamard: mode == kernels.AttentionInt8 && os.Getenv("QUANTIZE_HADAMARD") != "",
				})
				if err != nil {
					return err
				}
				timing, err := b.Time()
				if err != nil {
					return err
				}
				all = append(all, timing)
				fmt.Printf("%-20s %2d x %5d causal %-5t %8.1f us, with rounding %8.1f us, %4.0f TFLOP/s  cosine %.5f, relative L1 %.4f\n",
					timing.Kernel, shape.Batch, shape.Tokens, shape.Causal, timing.US, timing.USWhole, timing.TFLOPS, timing.Cosine, timing.L1)
				if err := b.Free(); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	data, err := json.MarshalIndent(all, "", " ")
	must(t, err)
	must(t, os.WriteFile(out, data, 0o644))
}
