//go:build !race

package cpu_test

import (
	"math/rand/v2"
	"testing"

	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/tensor"
)

// A call that is warm takes memory for its goroutines and little else: none a task, of
// which it has 32 for queries and 16 for keys. The race detector makes a sync.Pool forget.
func TestAttentionTakesNoMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 3))
	a := kernels.Attention{Batch: 1, Heads: 4, KVHeads: 2, HeadDim: 64, Queries: 1024, Keys: 1024, Causal: true, Scale: 0.125, Format: modes[1]}
	q, k, v, dst := normal(r, 1024, 256), normal(r, 1024, 128), normal(r, 1024, 128), tensor.NewMatrix(1024, 256)
	c := cpu.NewISA(cpu.New().ISA(), 1)
	n := testing.AllocsPerRun(5, func() {
		if err := c.Attention(dst, tensor.Matrix{}, q, k, v, a); err != nil {
			t.Fatal(err)
		}
	})
	if n > 20 { // measured: 6
		t.Errorf("%v allocations", n)
	}
}
