// Package format stores quantized weights as other runtimes read them, and
// moves a checkpoint from one such format to another without rounding again.
//
// In and out go a [packer.Weight] of shape (N, K) and the tensors that stand for
// it in a checkpoint:
//
//	format              P.                weight                         scales
//	gptq                qweight qzeros    I32 (K/8, N), along K          F16 (K/g, N)
//	                    scales g_idx
//	awq                 qweight qzeros    I32 (K, N/8), along N,         F16 (K/g, N)
//	                    scales            nibbles 0 2 4 6 1 3 5 7
//	modelopt W4A8_AWQ   weight ...        U8 (N/2, K), along N,          F32 (N, K/128)
//	                                      two's complement
//	modelopt FP8        weight ...        F8_E4M3 (N, K)                 F32 () or (N)
//	fp8-block           weight ...        F8_E4M3 (N, K)                 F32 (N/128, K/128)
//	compressed-tensors  weight_packed ... as package packer documents
//
// Eight INT4 codes of one row, K ascending, in a word of each:
//
//	compressed-tensors, word j of row n     k = 8j .. 8j+7    lowest nibble first
//	gptq, word (j, n)                       the same word, transposed
//	awq, word (k, c)                        n = 8c+0 2 4 6 1 3 5 7, lowest nibble first
//
// A [Format] packs and unpacks one linear; [Convert] does a checkpoint, verifies
// what it wrote and refuses what the target cannot hold ([ErrRepresent]): it never
// rounds a code or a scale.
//
// # Sources
//
// The layouts are those that AutoGPTQ/GPTQModel, AutoAWQ and NVIDIA's Model
// Optimizer write and that vLLM and TensorRT-LLM read (docs/formats.md 9 to 11);
// FP8 blocks are DeepSeek-V3's (arXiv 2412.19437, section 3.3).
package format
