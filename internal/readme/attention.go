package main

import (
	"bytes"
	"fmt"
)

// attentionResults is testdata/results/attention.json, written by kernels/cuda/mkresults.
type attentionResults struct {
	Date, Commit, Command, Device, Torch string
	Rows                                 []struct {
		Batch, Tokens int
		HeadDim       int `json:"head_dim"`
		Causal        bool
		Int8, E4M3    struct {
			US         float64
			USWhole    float64 `json:"us_whole"`
			Cosine, L1 float64
		}
		FA2   float64 `json:"fa2_bf16"` // microseconds; 0 where it refused
		CuDNN float64 `json:"cudnn_bf16"`
	}
}

const attentionHead = "| B x S, mask, D | int8: us, TFLOP/s (kernel alone) | cosine, relative L1 | e4m3: us, TFLOP/s (kernel alone) | cosine, relative L1 | FlashAttention-2 bf16, TFLOP/s | cuDNN bf16 | int8 / cuDNN | e4m3 / cuDNN |\n" +
	"|---|---|---|---|---|---|---|---|---|\n"

// attentionTable gives the table of prefill attention; it is empty where nothing was
// measured.
func attentionTable(file string) ([]byte, error) {
	var r attentionResults
	if found, err := readResults(file, &r); !found || err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("\n" + attentionHead)
	for _, p := range r.Rows {
		const heads = 32
		flop, mask := 4*heads*float64(p.Batch)*float64(p.Tokens)*float64(p.Tokens)*float64(p.HeadDim)/1e6, "full"
		if p.Causal {
			flop, mask = flop/2, "causal"
		}
		rate := func(us float64) string {
			if us == 0 {
				return "-"
			}
			return fmt.Sprintf("%.0f", flop/us)
		}
		fmt.Fprintf(&b, "| %d x %d, %s, %d |", p.Batch, p.Tokens, mask, p.HeadDim)
		for _, k := range []struct{ whole, alone, cosine, l1 float64 }{
			{p.Int8.USWhole, p.Int8.US, p.Int8.Cosine, p.Int8.L1}, {p.E4M3.USWhole, p.E4M3.US, p.E4M3.Cosine, p.E4M3.L1},
		} {
			fmt.Fprintf(&b, " %.0f, %s (%s) | %.4f, %.3f |", k.whole, rate(k.whole), rate(k.alone), k.cosine, k.l1)
		}
		fmt.Fprintf(&b, " %s | %s | %.2fx | %.2fx |\n", rate(p.FA2), rate(p.CuDNN), p.CuDNN/p.Int8.USWhole, p.CuDNN/p.E4M3.USWhole)
	}
	fmt.Fprintf(&b, "\nPrefill attention of 32 heads on 8, causal counted at half; the rounding of queries, keys and values is included but in brackets, where keys and values are rounded before: `%s`, %s, PyTorch %s, %s, commit %s.\n"+
		"Scales by thread, smooth K. Medians over CUDA graphs, N(0,1), two copies of all operands in turn, after 0.1 s of the same work, with rounding first: of the longest the rest met a hotter card; cosine and relative L1 of a sample of queries against float64.\n",
		r.Command, r.Device, r.Torch, r.Date, r.Commit)
	return b.Bytes(), nil
}
