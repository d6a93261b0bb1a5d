//go:build !cuda

package main

import (
	"context"

	"quantize/internal/fault"
	"quantize/kernels"
)

const gpuBuild = false

func describeGPU() string { return "not in this build" }

func verifyGPU(context.Context, string) (*kernelChecks, error) { return nil, noGPU() }

func benchGPU(context.Context, []int) ([]kernelTiming, error) { return nil, noGPU() }

func openCard() (card, func() error, error) { return nil, nil, noGPU() }

// noGPU is the error of a command that needs a build with -tags cuda.
func noGPU() error {
	return &fault.Error{Err: kernels.ErrUnsupported, Where: "CUDA", Found: "a build without the GPU backend", Wanted: "one with it", Hint: "make build-cuda"}
}
