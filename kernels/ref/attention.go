package ref

import (
	"quantize/kernels"
	"quantize/tensor"
)

// Attention implements kernels.Attender for every format: operands rounded by
// [RoundAttention], multiplied in tiles by [AttentionOperands.Attend].
func (*Compute) Attention(dst, lse, q, k, v tensor.Matrix, a kernels.Attention) error {
	if err := a.Check(dst, lse, q, k, v); err != nil {
		return err
	}
	RoundAttention(q, k, v, a).Attend(dst, lse)
	return nil
}
