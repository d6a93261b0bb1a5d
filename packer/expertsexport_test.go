package packer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quantize/checkpoint"
	"quantize/model/modeltest"
)

// An export keeps routers and the names of the source, and a router that the
// configuration forgets is found.
func TestExportOfExperts(t *testing.T) {
	t.Parallel()
	for _, family := range []string{"mixtral", "qwen3_moe"} {
		shape := modeltest.Shape{
			Name: family, Family: family, Hidden: 128, Intermediate: 128, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 64, Vocab: 64,
			Config: map[string]any{"num_local_experts": 3, "num_experts_per_tok": 2},
		}
		if family == "qwen3_moe" {
			shape.Config["moe_intermediate_size"] = 128
		}
		c, from, out := modeltest.Random(6, shape), t.TempDir(), t.TempDir()
		if err := c.Write(from); err != nil {
			t.Fatal(err)
		}
		r, err := checkpoint.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if _, err := Export(t.Context(), r, out, ExportOptions{Model: c.Parsed(), Scheme: W4A8, Int4: Int4Options{Grid: GridLUT}}); err != nil {
			t.Fatal(err)
		}
		if v := mustVerify(t, out); !v.OK {
			t.Fatalf("%s: %+v", family, v.Checks)
		}
		for _, file := range []string{"config.json", "w4a16/config.json"} {
			path := filepath.Join(out, file)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			broken := strings.Replace(string(data), RouterPattern, "re:.*nothing$", 1)
			if broken == string(data) {
				t.Fatalf("%s: routers are not ignored: %s", file, data)
			}
			if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if v := mustVerify(t, out); !fails(v, ItemIgnore, "gate is missing, but a router is not quantized") {
			t.Errorf("%s: %+v", family, v.Checks)
		}
	}
}
