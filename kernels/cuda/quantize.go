//go:build cuda

package cuda

import (
	"fmt"

	"quantize/internal/fault"
	"quantize/kernels"
)

// Before is what happens to activations before they are rounded.
type Before uint8

const (
	// Nothing rounds them as they are.
	Nothing Before = iota + 1
	// RMSNorm computes x/sqrt(mean x² + epsilon)·weight, weight (K) being Second.
	RMSNorm
	// SiLU computes gate/(1+exp(-gate))·up, up (M, K) being Second.
	SiLU
)

// Inputs are activations to round: FP32, or BF16 where BF16 is set.
type Inputs struct {
	X, Second Memory
	Before    Before
	BF16      bool
	Epsilon   float32
}

// quantizeArgument is struct Quantize of quantize.cu.
type quantizeArgument struct {
	X, Second, Codes, Token uint64
	Stride                  int64
	M, K, Rows, Slabs       int32
	Epsilon                 float32
	_                       int32
}

// maxQuantizeK is what 512 threads hold in four pieces of 16 elements each.
const maxQuantizeK = 512 * 4 * 16

// Quantize rounds in to E4M3 per token, into a ([PackActivations] is the plain
// twin). K must be a multiple of 16, at most 32768.
func (s *Session) Quantize(a *Activations, in Inputs, dependent bool) error {
	where := fmt.Sprintf("M %d, K %d", a.M, a.K)
	if a.K%16 != 0 || a.K > maxQuantizeK {
		return &fault.Error{Err: kernels.ErrUnsupported, Where: where, Found: fmt.Sprintf("K %d", a.K), Wanted: "a multiple of 16, at most 32768"}
	}
	if a.M == 0 {
		return nil
	}
	name := map[Before]string{Nothing: "quantize_", RMSNorm: "quantize_rmsnorm_", SiLU: "quantize_silu_"}[in.Before]
	if in.BF16 {
		name += "bf16"
	} else {
		name += "f32"
	}
	slabs := ceilDiv(a.K, slab)
	threads := min(512, ceilDiv(slabs*8, 32)*32)
	chunks := ceilDiv(slabs*8, threads)
	if chunks == 3 {
		chunks = 4
	}
	argument := &quantizeArgument{
		X: in.X.Address, Second: in.Second.Address, Codes: a.Codes.Address, Token: a.Token.Address, Stride: int64(a.K),
		M: int32(a.M), K: int32(a.K), Rows: int32(a.Rows), Slabs: int32(slabs), Epsilon: in.Epsilon,
	}
	return launch(s, fmt.Sprintf("%s_%d", name, chunks), Launch{Grid: Dim{X: a.M}, Threads: threads, Dependent: dependent}, argument, where)
}
