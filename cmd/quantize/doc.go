// Command quantize is post-training quantization of Hugging Face checkpoints:
// it makes INT4 and FP8 checkpoints that runtimes load unchanged, and measures
// what was lost. Each command is a file; the libraries do the work.
package main
