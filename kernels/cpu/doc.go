// Package cpu is the fast arithmetic of a forward pass on processors: FP32
// products with packed weights, causal attention and the elementwise steps
// between them.
package cpu

//go:generate go run -C gen . ..
