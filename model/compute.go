package model

import "quantize/tensor"

// Linear computes y = x Wᵀ + b for a weight of shape (N, K).
// Implementations are safe for concurrent use.
type Linear interface {
	// Shape returns N (output features) and K (input features).
	Shape() (n, k int)
	// Forward writes y (M, N) into dst for x (M, K). dst and x must not overlap.
	Forward(dst, x tensor.Matrix)
}

// Attention describes one causal attention layer.
type Attention struct {
	Heads, KVHeads, HeadDim int
	Scale                   float32 // multiplies q·k, usually 1/sqrt(HeadDim)
	Window                  int     // sliding window in tokens, 0 for none: query i sees keys in (i-Window, i]
}

// Compute is the arithmetic of a forward pass. Package model declares it,
// package kernels implements it (kernels/ref in plain Go, kernels/cpu fast).
type Compute interface {
	// Linear makes a full-precision linear from an FP32 weight (N, K) and an
	// optional bias of length N. The weight may be reused by the caller afterwards.
	Linear(weight tensor.Matrix, bias []float32) Linear
	// Attend computes causal attention of ONE sequence of M tokens. q and dst
	// are (M, Heads*HeadDim), k and v are (M, KVHeads*HeadDim), rotary embedding
	// already applied. Query head h reads KV head h / (Heads/KVHeads).
	Attend(dst, q, k, v tensor.Matrix, a Attention)
}

// Source gives the weights of a checkpoint by module name, for example
// "model.layers.0.self_attn.q_proj". The full-precision source is
// [FromCheckpoint]; package kernels has one for quantized checkpoints.
type Source interface {
	// Linear reads NAME.weight (or its quantized set) and NAME.bias if there is one.
	Linear(name string) (Linear, error)
	// Matrix reads the tensor of that exact name as FP32; a vector has one row.
	Matrix(tensorName string) (tensor.Matrix, error)
}

// Observer is shown every named activation. x is valid only during the call.
type Observer func(site Site, x tensor.Matrix)

// Site is a named activation: the input of the linears that share it, or a
// tensor of the attention.
type Site struct {
	Layer int
	Point Point
}

// Point is the place inside a decoder block.
type Point string

// The points of a decoder block, in the order in which they are computed.
const (
	AttnIn Point = "attn_in" // (M, hidden): input of q, k, v
	QPre   Point = "q_pre"   // (M, Heads*HeadDim): queries before RoPE (after QK-norm)
	KPre   Point = "k_pre"   // (M, KVHeads*HeadDim): keys before RoPE (after QK-norm)
	QPost  Point = "q_post"  // queries after RoPE
	KPost  Point = "k_post"  // keys after RoPE: what the cache holds
	V      Point = "v"       // (M, KVHeads*HeadDim)
	OIn    Point = "o_in"    // (M, Heads*HeadDim): input of o
	MLPIn  Point = "mlp_in"  // (M, hidden): input of gate and up
	DownIn Point = "down_in" // (M, intermediate): input of down

	// ExpertIn is, for one expert, the rows of MLPIn whose tokens reached it: the
	// input of its gate and up. An expert has an ExpertIn and a DownIn of its own
	// ([Point.Of]), shown when a token of the window reaches it.
	ExpertIn Point = "expert_in"
)
