package main

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"runtime"
	"time"

	"quantize/calibrate"
	"quantize/kernels/cpu"
	"quantize/packer"
	"quantize/recipe"
	"quantize/tensor"
)

// machine is what a short calibration found about the machine: what plan
// estimates with.
type machine struct {
	Cores    int     `json:"cores"`
	GFLOPS   float64 `json:"gemm_gflops"`                // FP32 products, all cores
	Rounding float64 `json:"rounded_weights_per_second"` // by the recipe's rounding to nearest, all cores
	Hashing  float64 `json:"hashed_bytes_per_second"`    // SHA-256, one core

	// Of recipes that calibrate: 2 operations a weight and token over the time that a block
	// of the model takes in all, attention and norms included.
	Forward float64 `json:"forward_gflops,omitempty"`
	// Of GPTQ: K³ operations over the time to factor a Hessian in float64.
	Factor float64 `json:"factor_gflops,omitempty"`
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

// measure times what the recipe's run is made of.
func (e *estimate) measure(c *cpu.Compute, o packer.Int4Options) (machine, error) {
	m, err := measure(c, e.preview.Scheme, o, e.config.Hidden/o.GroupSize*o.GroupSize)
	if err == nil && e.recipe.Calibrated() {
		bits := bf16Bits
		switch {
		case e.folds():
			bits = float32Bits
		case e.recipe.Weights.Rounding == recipe.GPTQ:
			bits = roundedBits
		}
		m.Forward, err = measureForward(c, e.config, int(e.window()), bits)
	}
	if err == nil && e.recipe.Weights.Rounding == recipe.GPTQ {
		m.Factor, err = measureFactor()
	}
	return m, err
}

// measureFactor factors the Hessian of inputs that are nearly independent.
func measureFactor() (float64, error) {
	const k = 384
	data, err := make([]float64, k*k), error(nil)
	factor := mean(func() {
		for i := range data {
			data[i] = 1
		}
		for i := range k {
			data[i*k+i] = k
		}
		_, e := packer.FactorHessian(&calibrate.Hessian{K: k, Data: data}, packer.FactorOptions{})
		err = errors.Join(err, e)
	})
	return k * k * k / factor.Seconds() / 1e9, err
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
