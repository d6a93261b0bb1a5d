package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGPUTableIsFresh(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "gpu.md"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := allGPU(filepath.Join(root, "testdata", "results"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := replace(text, table)
	if err != nil {
		t.Fatal(err)
	}
	if string(fresh) != string(text) {
		t.Error("docs/gpu.md does not show testdata/results/gpu.json; run `make readme`")
	}
}

func TestGPURowsSayWhatTheFileSays(t *testing.T) {
	dir := t.TempDir()
	const file = `{"device":"card","rows":[
	 {"m":16,"n":1000,"k":500,"floor":1,"exact":2,"lut":4,"baselines":{"cublas_bf16":9,"cublaslt_fp8_tensor":6,"cublaslt_fp8_token":8}},
	 {"m":8,"n":1000,"k":500,"floor":1,"exact":2,"lut":4,"baselines":{}}]}`
	if err := os.WriteFile(filepath.Join(dir, "gpu.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	table, err := gpuTable(dir, summaryTokens)
	if err != nil {
		t.Fatal(err)
	}
	const want = "| 1000x500 | 16 | 2.0, 8 | 4.0, 4 | 1.0 | 9.0 | 6.0 | 8.0 | 3.00x | 1.50x |\n"
	if !strings.Contains(string(table), want) || strings.Contains(string(table), "| 8 |") {
		t.Errorf("table\n%s\nwants one row,\n%s", table, want)
	}
}
