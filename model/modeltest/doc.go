// Package modeltest makes tiny random checkpoints of every architecture, and
// the slow arithmetic that other forward passes are compared with.
//
//	c := modeltest.Random(1, modeltest.Shapes()[0])  // same seed, same bytes
//	dir := t.TempDir()
//	err := c.Write(dir)                              // a Hugging Face directory
//	src := c.Source(modeltest.Compute())             // or straight from memory
//	want := modeltest.Logits(c.Parsed(), c.Widen(), tokens) // float64 throughout
//
// [Logits] shares no code with package model's forward pass but the config and
// the rotary frequencies, so each checks the other; a transform of weights is
// shown to preserve the function by comparing it before and after in float64.
package modeltest
