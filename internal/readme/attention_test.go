package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAttentionRowsSayWhatTheFileSays(t *testing.T) {
	dir := t.TempDir()
	if table, err := attentionTable(filepath.Join(dir, "attention.json")); err != nil || table != nil {
		t.Errorf("without a file: %q, %v", table, err)
	}
	const file = `{"device":"card","rows":[{"batch":2,"tokens":1000,"head_dim":64,"causal":true,
	 "int8":{"us":20,"us_whole":32,"cosine":0.9995,"l1":0.03},"e4m3":{"us":16,"us_whole":64,"cosine":0.9991,"l1":0.045},
	 "fa2_bf16":0,"cudnn_bf16":48}]}`
	if err := os.WriteFile(filepath.Join(dir, "attention.json"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	table, err := attentionTable(filepath.Join(dir, "attention.json"))
	if err != nil {
		t.Fatal(err)
	}
	// 4·2·32·1000²·64/2 operations
	const want = "| 2 x 1000, causal, 64 | 32, 256 (410) | 0.9995, 0.030 | 64, 128 (512) | 0.9991, 0.045 | - | 171 | 1.50x | 0.75x |\n"
	if !strings.Contains(string(table), want) {
		t.Errorf("table\n%s\nwants the row\n%s", table, want)
	}
}
