package main

import (
	"crypto/sha256"
	"math/rand/v2"
	"runtime"
	"time"

	"quantize/kernels/cpu"
	"quantize/packer"
	"quantize/tensor"
)

// machine is what a short calibration found about the machine: what plan
// estimates with.
type machine struct {
	Cores    int     `json:"cores"`
	GFLOPS   float64 `json:"gemm_gflops"`                // FP32 products, all cores
	Rounding float64 `json:"rounded_weights_per_second"` // by the recipe's rounding to nearest, all cores
	Hashing  float64 `json:"hashed_bytes_per_second"`    // SHA-256, one core
}

// Each measurement repeats its work for about this long.
const measureFor = 120 * time.Millisecond

// mean repeats work for a while and returns its mean time: what else the machine
// does meanwhile will slow the run too.
func mean(work func()) time.Duration {
	work() // the first touches new memory
	n, begin := 0, time.Now()
	for n == 0 || time.Since(begin) < measureFor {
		work()
		n++
	}
	return max(time.Since(begin)/time.Duration(n), 1)
}

// measure times a product, the rounding that o describes on rows of k weights,
// and a hash.
func measure(c *cpu.Compute, s packer.Scheme, o packer.Int4Options, k int) (machine, error) {
	const n, rows = 512, 32
	a, b, dst := tensor.NewMatrix(n, n), tensor.NewMatrix(n, n), tensor.NewMatrix(n, n)
	for i := range a.Data {
		a.Data[i], b.Data[i] = float32(i%13)-6, float32(i%7)-3
	}
	gemm := mean(func() { c.MatMulT(dst, a, b) })

	r := rand.New(rand.NewPCG(1, 1))
	w := tensor.NewMatrix(rows, k)
	for i := range w.Data {
		w.Data[i] = float32(r.NormFloat64())
	}
	var err error
	rounding := mean(func() {
		if s == packer.FP8 {
			_, _, err = packer.QuantizeFP8(w)
		} else {
			_, _, err = packer.QuantizeInt4(w, o)
		}
	})
	data := make([]byte, 4<<20)
	hashing := mean(func() { sha256.Sum256(data) })
	return machine{
		Cores:    runtime.GOMAXPROCS(0),
		GFLOPS:   2 * n * n * n / gemm.Seconds() / 1e9,
		Rounding: float64(rows*k) / rounding.Seconds(),
		Hashing:  float64(len(data)) / hashing.Seconds(),
	}, err
}
