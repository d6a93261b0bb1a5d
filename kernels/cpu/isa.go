package cpu

import (
	"errors"
	"os"
	"strings"

	"quantize/internal/fault"
	"quantize/internal/simd"
)

// ErrISA is wrapped by the error for an instruction set that is unknown or that
// the processor does not have.
var ErrISA = errors.New("instruction set not available")

// Variable names the environment variable that forces an instruction set.
const Variable = simd.Variable

// ISA is an instruction set that the package has kernels for.
type ISA uint8

// The instruction sets, slowest first.
const (
	Generic ISA = iota + 1 // plain Go
	AVX2                   // AVX2 and FMA3: tiles of 6 x 16
	AVX512                 // AVX-512 F, BW, DQ and VL: tiles of 14 x 32
	AMX                    // AVX-512 and, for linears, AMX: FP32 products from tiles of BF16 parts
)

var isaNames = map[ISA]string{Generic: "generic", AVX2: "avx2", AVX512: "avx512", AMX: "amx"}

// String returns the name that [Select] takes.
func (i ISA) String() string { return isaNames[i] }

// Available lists the instruction sets of this processor and build, slowest
// first; Generic is always there.
func Available() []ISA {
	var have []ISA
	for i := Generic; i <= AMX; i++ {
		if kernelFor(i) != nil {
			have = append(have, i)
		}
	}
	return have
}

// Select returns the instruction set of that name, or the best available one
// when the name is empty. The error wraps [ErrISA] and lists what is available.
func Select(name string) (ISA, error) {
	have := Available()
	if name == "" {
		return have[len(have)-1], nil
	}
	names := make([]string, len(have))
	for i, isa := range have {
		if names[i] = isa.String(); names[i] == name {
			return isa, nil
		}
	}
	return 0, &fault.Error{
		Err:    ErrISA,
		Where:  Variable,
		Found:  name,
		Wanted: strings.Join(names, " or "),
		Hint:   "unset " + Variable + " to use the best of this processor",
	}
}

// FromEnv is [Select] of the environment variable [Variable]. Commands call it
// first, so that a wrong value is an error before any work.
func FromEnv() (ISA, error) { return Select(os.Getenv(Variable)) }
