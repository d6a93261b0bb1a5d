// Package packer turns weights into codes and scales, and codes and scales
// into a checkpoint that existing runtimes load.
//
// In come FP32 matrices (N, K) read from a [checkpoint.Reader]; out goes a
// compressed-tensors directory:
//
//	OUT/config.json                    the source's, plus quantization_config
//	OUT/w4a16/config.json              the same tensors read as weight-only INT4
//	OUT/model-0000i-of-0000n.safetensors, OUT/model.safetensors.index.json
//	    P.weight_packed  I32  (N, K/8)   word j of a row: k = 8j..8j+7, lowest nibble first, q+8
//	    P.weight_scale   BF16 (N, K/g)   s8 * chan, one per group of g inputs
//	    P.weight_shape   I64  (2)        N, K
//	OUT/quantize/manifest.json         hashes, recipe, figures of each layer
//
// # The grid
//
// vLLM's W4A8 kernel does not multiply by the stored scales s. While loading it
// splits each row into one FP32 factor and one E4M3 scale per group,
//
//	chan = max(max_g s / 448, 1/(448*512))
//	s8   = e4m3(s / chan)
//	w'   = e4m3(q * e4m3(s8/8)) * 8*chan
//
// and the largest group always gets s8 = 448. A scale chosen in ignorance of
// this moves by up to 6 % after its codes were rounded. So scales are chosen on
// that grid to begin with: chan has four significant bits, hence s8*chan has at
// most eight and is exact in BF16; one group of every row has s8 = 448, hence
// chan is found again from the stored maximum; and s8 is taken from the values
// 8*e4m3(s8/8) keeps, hence weight-only runtimes, which multiply q*s, see the
// scales that the FP8 kernel sees. Nothing moves at load.
//
//	for each row:
//	  for chan in four-bit values, 0.6 .. 1 of max_g amax/7/448:
//	    for each group: s8 = argmin over its neighbours of the rounding error
//	    if no group has s8 = 448: pin the group where that costs least
//	  keep the chan with the smallest sum of errors
//	codes = the nearest product of the arithmetic that will run
//
// Rows whose largest scale is below 1/512 meet the floor of chan; they are
// counted in the report.
//
// # Sources
//
// The contract is that of compressed-tensors and of vLLM's
// CompressedTensorsW4A8Fp8 and CutlassW4A8LinearKernel. INT4 weights with FP8
// group scales and FP8 activations: FireQ, arXiv 2505.20839. Searching the scale
// (clipping) for the least squared error: AWQ, arXiv 2306.00978, section 3.2,
// and GPTQ's and QuaRot's clipping search (arXiv 2404.00456, section 5).
package packer
