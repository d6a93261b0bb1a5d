// Package simd tells the packages below kernels whether they may use their
// assembly. Theirs gives the same bits as their plain Go, so that, unlike in
// kernels/cpu, the choice is one of speed alone.
package simd

import (
	"os"

	"golang.org/x/sys/cpu"
)

// Variable names the environment variable that forces an instruction set.
// Commands refuse values that kernels/cpu does not know.
const Variable = "QUANTIZE_CPU"

// AVX2 reports whether the processor has AVX2 with FMA3 and F16C, which came
// with it, and [Variable] does not ask for plain Go.
func AVX2() bool { return allowed(os.Getenv(Variable)) }

func allowed(forced string) bool {
	return forced != "generic" && cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C
}
