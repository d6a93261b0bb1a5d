//go:build !amd64 || noasm

package cpu

// kernelFor returns the kernels of an instruction set: here only plain Go.
func kernelFor(isa ISA) *kernel {
	if isa == Generic {
		return &genericKernel
	}
	return nil
}
