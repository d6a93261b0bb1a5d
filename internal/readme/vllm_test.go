package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVLLMRowsSayWhatTheFileSays(t *testing.T) {
	dir := t.TempDir()
	if table, err := vllm(dir); err != nil || string(table) != vllmNone {
		t.Errorf("without a file: %q, %v", table, err)
	}
	const file = `{"date":"2026-01-02","commit":"abc","command":"c","device":"card","versions":{"vllm":"0.26.0","torch":"2"},"cases":[
	 {"model":"m","format":"W4A8","recipe":"rtn","config":"","dtype":"bfloat16","mode":"eager","kernels":{"Scheme / Kernel":8},"attention":{"TRITON_ATTN, cache auto":2},"kl_bound":0.0003,"kl_itself":0.0002,
	  "readings":[{"reading":"lut","tokens":10,"kl":0.00014,"log_prob":0.0125,"top1":0.98,"greedy_same":63,"greedy":64,"ppl_vllm":34.36,"ppl_ours":34.3226},
	              {"reading":"exact","tokens":10,"kl":0.00026,"log_prob":0.017,"top1":0.97,"greedy_same":62,"greedy":64,"ppl_vllm":34.36,"ppl_ours":34.5}],
	  "linears":{"linears":12,"worst":0.00177,"equal":0.9492,"other":[0.0151,0.0784],"nearer":0},
	  "scales":{"rows":4,"rows_equal":4,"groups":6,"groups_equal":5,"table_bytes":48,"table_bytes_equal":47}},
	 {"model":"n","format":"AWQ","recipe":"rtn","config":"w4a16","dtype":"float16","mode":"eager","error":"ValueError: a | b"}]}`
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "vllm.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(file)
	table, err := vllm(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| m | rtn | W4A8, `config.json`, bfloat16, eager | 8 Scheme / Kernel; 2 TRITON_ATTN, cache auto | 4 of 4, 5 of 6, 47 of 48 | 12, 1.8e-03, 94.92 %; 1.5e-02 to 7.8e-02 | lut | 1.4e-04 (3.0e-04; 2.0e-04) | 0.0125 | 34.360, 34.323 | 98.0 % | 63/64 |\n",
		"| | | | | | | exact | 2.6e-04 | 0.0170 | 34.360, 34.500 | 97.0 % | 62/64 |\n",
		"| n | rtn | AWQ, `w4a16/config.json`, float16, eager | refused: ValueError: a \\| b | | | | | | | | |\n",
		"vLLM 0.26.0 on card (torch 2): `c`, 2026-01-02, commit abc.\n",
	} {
		if !strings.Contains(string(table), want) {
			t.Errorf("table\n%s\nwants\n%s", table, want)
		}
	}
	write(`{"cases":[]}`)
	if _, err := vllm(dir); err == nil {
		t.Error("a file without cases was accepted")
	}
}
