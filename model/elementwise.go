package model

import "quantize/tensor"

// Elementwise is an optional part of a [Compute]: the work between the
// linears. A Compute without it gets the plain Go versions of this package,
// which are also the reference for the fast ones.
type Elementwise interface {
	// RMSNorm writes weight * x / sqrt(mean(x²) + eps), the mean taken over
	// each row; len(weight) = x.Cols. dst may be x (Zhang and Sennrich 2019,
	// arXiv 1910.07467, eq. 4).
	RMSNorm(dst, x tensor.Matrix, weight []float32, eps float32)
	// SiLUMul writes gate/(1+exp(-gate)) * up. dst may be gate or up (Shazeer
	// 2020, arXiv 2002.05202, SwiGLU).
	SiLUMul(dst, gate, up tensor.Matrix)
}
