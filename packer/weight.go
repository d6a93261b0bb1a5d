package packer

import "quantize/tensor"

// Arithmetic says which product a runtime forms from the stored codes and
// scales (docs/architecture.md, decision 4; methods.md 1.17).
type Arithmetic uint8

const (
	// LUT multiplies e4m3(q*s8/8)*8*chan with FP8 activations: vLLM on Hopper.
	LUT Arithmetic = iota + 1
	// Exact multiplies q*s8*chan with FP8 activations: our GPU kernel; transformers
	// computes it too, but for rows at the scale floor (docs/numerics.md).
	Exact
	// WeightOnly multiplies q*scale with unrounded activations: the W4A16 config file.
	WeightOnly
)

// Weight is a quantized weight of shape (N, K).
type Weight interface {
	// Shape returns N (output features) and K (input features).
	Shape() (n, k int)
	// Decode writes the values that arithmetic a multiplies into dst (N, K).
	Decode(dst tensor.Matrix, a Arithmetic)
	// ActivationBits is 8 when the scheme rounds activations to FP8 per token, else 16.
	ActivationBits() int
}

// Int4Weight holds group-quantized INT4 codes as compressed-tensors stores
// them (formats.md 4.1).
type Int4Weight struct {
	N, K, GroupSize int
	Codes           []uint32 // (N, K/8): word j of a row holds k = 8j..8j+7, lowest nibble first, each q+8
	Scales          []uint16 // (N, K/GroupSize) BF16 bits
	FP8Activations  bool     // the scheme rounds activations to E4M3 per token (W4A8)
}

// FP8Weight holds per-output-channel E4M3 codes (formats.md 4.2, FP8_DYNAMIC).
type FP8Weight struct {
	N, K   int
	Codes  []uint8   // (N, K) E4M3
	Scales []float32 // (N)
}
