package main

import (
	"fmt"
	"strings"
)

// attentionTiming has the keys of cuda.AttentionTiming that the results keep.
type attentionTiming struct {
	Kernel  string  `json:"kernel"`
	Batch   int     `json:"batch"`
	Tokens  int     `json:"tokens"`
	HeadDim int     `json:"head_dim"`
	Causal  bool    `json:"causal"`
	US      float64 `json:"us"`
	USWhole float64 `json:"us_whole"`
	Cosine  float64 `json:"cosine"`
	L1      float64 `json:"l1"`
}

// attentionOthers is what prefill_competitors.py writes; a backend that refuses a shape
// leaves zero.
type attentionOthers struct {
	Device string `json:"device"`
	Torch  string `json:"torch"`
	Rows   []struct {
		Batch   int     `json:"batch"`
		Tokens  int     `json:"tokens"`
		HeadDim int     `json:"head_dim"`
		Causal  bool    `json:"causal"`
		FA2     float64 `json:"fa2_bf16"`
		CuDNN   float64 `json:"cudnn_bf16"`
	} `json:"rows"`
}

// measured is one of our kernels in the results; times are microseconds.
type measured struct {
	US      float64 `json:"us"`       // keys and values rounded before
	USWhole float64 `json:"us_whole"` // their rounding included
	Cosine  float64 `json:"cosine"`
	L1      float64 `json:"l1"`
}

type attentionRow struct {
	Batch   int      `json:"batch"`
	Tokens  int      `json:"tokens"`
	HeadDim int      `json:"head_dim"`
	Causal  bool     `json:"causal"`
	Int8    measured `json:"int8"`
	E4M3    measured `json:"e4m3"`
	FA2     float64  `json:"fa2_bf16"`
	CuDNN   float64  `json:"cudnn_bf16"`
}

type attentionResults struct {
	Date    string         `json:"date"`
	Commit  string         `json:"commit"`
	Command string         `json:"command"`
	Device  string         `json:"device"`
	Torch   string         `json:"torch"`
	Rows    []attentionRow `json:"rows"`
}

// attention joins the timings of file with those of others.
func attention(date, commit, file, others string) (attentionResults, error) {
	var timings []attentionTiming
	var o attentionOthers
	if err := read(file, &timings); err != nil {
		return attentionResults{}, err
	}
	if err := read(others, &o); err != nil {
		return attentionResults{}, err
	}
	out := attentionResults{Date: date, Commit: commit, Command: "kernels/cuda/device.sh attspeed attcompetitors", Device: o.Device, Torch: o.Torch}
	for _, x := range o.Rows {
		r := attentionRow{Batch: x.Batch, Tokens: x.Tokens, HeadDim: x.HeadDim, Causal: x.Causal, FA2: x.FA2, CuDNN: x.CuDNN}
		for codes, to := range map[string]*measured{"int8": &r.Int8, "e4m3": &r.E4M3} {
			for _, t := range timings {
				if strings.Contains(t.Kernel, codes) && t.Batch == r.Batch && t.Tokens == r.Tokens && t.HeadDim == r.HeadDim && t.Causal == r.Causal {
					*to = measured{US: t.US, USWhole: t.USWhole, Cosine: t.Cosine, L1: t.L1}
				}
			}
			if to.US == 0 {
				return out, fmt.Errorf("no timing of %s with %d x %d tokens, head size %d, causal %v", codes, r.Batch, r.Tokens, r.HeadDim, r.Causal)
			}
		}
		out.Rows = append(out.Rows, r)
	}
	return out, nil
}
