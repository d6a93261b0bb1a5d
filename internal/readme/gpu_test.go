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
	 {"m":8,"n":1000,"k":500,"floor":1,"exact":2,"lut":4,"baselines":{"vllm_w4a8":10}},
	 {"m":16,"n":2,"k":1},{"m":16,"n":3,"k":1},{"m":16,"n":4,"k":1},{"m":16,"n":5,"k":1},{"m":8,"n":5,"k":1}]}`
	if err := os.WriteFile(filepath.Join(dir, "gpu.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	// 253,906 bytes of weights, 8000 of activations, 32,000 of outputs; 16e6 operations.
	const row16 = "| 1000x500 | 16 | 2.0, 8, 0.15, 2.00 | 4.0, 4, 0.07, 4.00 | 1.0 | 9.0 (4.50x, 2.25x) | 6.0 (3.00x, 1.50x) | 8.0 (4.00x, 2.00x) | - |\n"
	for _, c := range []struct {
		whole        bool
		has, missing []string
	}{
		{false, []string{row16, "| 4x1 | 16 |"}, []string{"| 1000x500 | 8 |", "| 5x1 |"}},
		{true, []string{row16, "| 1.0 | - | - | - | 10.0 (5.00x, 2.50x) |", "| 5x1 | 16 |"}, []string{"| 5x1 | 8 |"}},
	} {
		table, err := gpuTable(filepath.Join(dir, "gpu.json"), c.whole)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.has {
			if !strings.Contains(string(table), want) {
				t.Errorf("whole %v: no %q in\n%s", c.whole, want, table)
			}
		}
		for _, other := range c.missing {
			if strings.Contains(string(table), other) {
				t.Errorf("whole %v: %q in\n%s", c.whole, other, table)
			}
		}
	}
}
