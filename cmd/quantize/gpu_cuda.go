//go:build cuda

package main

import (
	"context"
	"fmt"
	"slices"

	"quantize/kernels/cuda"
	"quantize/packer"
)

const gpuBuild = true

// describeGPU says which card there is and whether it is of use.
func describeGPU() string {
	n, err := cuda.Devices()
	if err != nil {
		return err.Error()
	}
	if n == 0 {
		return "no device"
	}
	d, err := cuda.Open(0)
	if err != nil {
		return err.Error()
	}
	p := d.Properties()
	if err := d.Close(); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, compute capability %d.%d, %d multiprocessors, %s, driver for CUDA %d.%d (%d devices)",
		p.Name, p.Capability[0], p.Capability[1], p.Processors, size(p.MemoryBytes), p.DriverCUDA/1000, p.DriverCUDA%1000/10, n)
}

// openCard takes the first card into use.
func openCard() (card, func() error, error) {
	d, err := cuda.Open(0)
	if err != nil {
		return nil, nil, err
	}
	return cuda.NewBackend(d), d.Close, nil
}

// verifyGPU runs every check, and those of the weights of the checkpoint in dir
// unless that is empty.
func verifyGPU(ctx context.Context, dir string) (*kernelChecks, error) {
	d, err := cuda.Open(0)
	if err != nil {
		return nil, err
	}
	v := &kernelChecks{OK: true, Device: d.Properties().Name}
	for _, c := range cuda.Checks() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		check := kernelCheck{Item: c.Name, OK: true}
		if err := d.Run(c.Run); err != nil {
			check.OK, check.Detail, v.OK = false, err.Error(), false
		}
		v.Checks = append(v.Checks, check)
	}
	if dir != "" {
		checks, err := verifyWeights(ctx, d, dir)
		if err != nil {
			return nil, err
		}
		for _, c := range checks {
			v.Checks, v.OK = append(v.Checks, c), v.OK && c.OK
		}
	}
	return v, d.Close()
}

// verifyWeights multiplies the INT4 weights of the checkpoint in dir; one check
// for each arithmetic.
func verifyWeights(ctx context.Context, d *cuda.Device, dir string) ([]kernelCheck, error) {
	l, err := load(dir)
	if err != nil {
		return nil, err
	}
	defer l.close()
	var checks []kernelCheck
	for _, a := range []packer.Arithmetic{packer.Exact, packer.LUT} {
		name := map[packer.Arithmetic]string{packer.Exact: "exact", packer.LUT: "lut"}[a]
		check := kernelCheck{Item: fmt.Sprintf("weights of %s, %s products", dir, name), OK: true}
		count, worst := 0, 0.0
		for _, module := range l.linears() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			weight, err := packer.ReadWeight(l.reader, module, l.quant)
			if err != nil {
				return nil, err
			}
			w, ok := weight.(*packer.Int4Weight)
			if !ok || cuda.Supported(w) != nil {
				continue
			}
			err = d.Run(func(s *cuda.Session) error {
				e, err := s.CheckWeight(w, a)
				worst = max(worst, e)
				return err
			})
			if err != nil {
				check.OK, check.Detail = false, fmt.Sprintf("%s: %v", module, err)
				break
			}
			count++
		}
		if check.OK {
			check.Detail = fmt.Sprintf("%d weights, largest relative error beyond BF16 %.2e", count, worst)
		}
		checks = append(checks, check)
	}
	return checks, nil
}

func benchGPU(ctx context.Context, tokens []int) ([]kernelTiming, error) {
	d, err := cuda.Open(0)
	if err != nil {
		return nil, err
	}
	var all []kernelTiming
	err = d.Run(func(s *cuda.Session) error {
		bandwidth, err := s.ReadBandwidth()
		if err != nil {
			return err
		}
		for _, shape := range cuda.BenchShapes {
			b, err := s.NewBench(shape[0], shape[1], slices.Max(tokens), -8, packer.Exact)
			if err != nil {
				return err
			}
			for _, m := range tokens {
				if err := ctx.Err(); err != nil {
					return err
				}
				t, err := b.Time(m, cuda.Dispatch(m, shape[0], shape[1], packer.Exact), bandwidth)
				if err != nil {
					return err
				}
				all = append(all, kernelTiming{
					Kernel: t.Kernel, M: t.M, N: t.N, K: t.K, US: t.US, TFLOPS: t.TFLOPS, TBPS: t.TBPS,
					Baselines: map[string]float64{"read": t.Floor, "serial": t.USSerial}, Device: d.Properties().Name,
				})
			}
			if err := b.Free(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, d.Close()
}
