package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
)

// gpuResults is testdata/results/gpu.json or gpu-h200.json, written by kernels/cuda/mkresults.
type gpuResults struct {
	Date, Commit, Command, Device, Torch string
	Rows                                 []gpuRow
}

type gpuRow struct {
	M, N, K           int
	Floor, Exact, LUT float64            // microseconds
	Baselines         map[string]float64 // microseconds
}

// ours prints a time of ours and what follows from it: TB/s are of codes, scales,
// activations and outputs.
func (p gpuRow) ours(us float64) string {
	m, n, k := float64(p.M), float64(p.N), float64(p.K)
	bytes := n*k/2 + n*k/128 + m*k + 2*m*n
	return fmt.Sprintf("%.1f, %.0f, %.2f, %.2f", us, 2*m*n*k/us/1e6, bytes/us/1e6, us/p.Floor)
}

const gpuHead = "| N x K | M | exact: us, TFLOP/s, TB/s, x floor | lut | floor, us | cuBLAS bf16, us (exact, lut) | FP8 per tensor | FP8 per token | vLLM W4A8 |\n" +
	"|---|---|---|---|---|---|---|---|---|\n"

// The README shows the first model's products (its four shapes lead the file) with
// summaryTokens; docs/gpu.md has them with all, and those of other models with summaryTokens.
const mainShapes = 4

var summaryTokens = []int{1, 16, 64, 256, 4096}

// allGPU gives the tables of docs/gpu.md.
func allGPU(dir string) ([]byte, error) {
	var all []byte
	for _, card := range []string{"", "-h200"} { // gpu.json, attention.json; gpu-h200.json, ...
		products, err := gpuTable(filepath.Join(dir, "gpu"+card+".json"), true)
		if err != nil {
			return nil, err
		}
		attention, err := attentionTable(filepath.Join(dir, "attention"+card+".json"))
		if err != nil {
			return nil, err
		}
		all = append(append(all, products...), attention...)
	}
	return all, nil
}

// gpuTable gives the table of the GPU's products, whole or the README's part; it is empty
// where nothing was measured.
func gpuTable(file string, whole bool) ([]byte, error) {
	var r gpuResults
	if found, err := readResults(file, &r); !found || err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if whole {
		fmt.Fprintf(&b, "\n### %s\n\n", r.Device)
	}
	b.WriteString(gpuHead)
	var shapes [][2]int
	for _, p := range r.Rows {
		if shape := [2]int{p.N, p.K}; !slices.Contains(shapes, shape) {
			shapes = append(shapes, shape)
		}
		first := len(shapes) <= mainShapes
		if all := whole && first; !all && (!whole && !first || !slices.Contains(summaryTokens, p.M)) {
			continue
		}
		fmt.Fprintf(&b, "| %dx%d | %d | %s | %s | %.1f |", p.N, p.K, p.M, p.ours(p.Exact), p.ours(p.LUT), p.Floor)
		for _, name := range []string{"cublas_bf16", "cublaslt_fp8_tensor", "cublaslt_fp8_token", "vllm_w4a8"} {
			us, timed := p.Baselines[name]
			if !timed { // vLLM is not everywhere, and refuses some shapes
				b.WriteString(" - |")
				continue
			}
			fmt.Fprintf(&b, " %.1f (%.2fx, %.2fx) |", us, us/p.Exact, us/p.LUT)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\nINT4 weights in groups of 128 (exact: codes -7..7, its grid's; lut: -8..7), E4M3 activations, BF16 out: `%s`, %s, PyTorch %s, %s, commit %s. Medians over CUDA graphs, random data, weights\n"+
		"rotated out of the L2 cache; products of more than 1e11 operations after 0.1 s of the same work, under the card's power limit. In brackets how many times faster `exact` and `lut` are.\n"+
		"The floor is reading codes and scales at the bandwidth measured in the same run.\n",
		r.Command, r.Device, r.Torch, r.Date, r.Commit)
	return b.Bytes(), nil
}
