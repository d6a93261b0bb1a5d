package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/packer"
	"quantize/recipe"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden holds the bytes of every tensor that the recipes without
// calibration make of the embedded model, so that a change of one shows its
// name in the diff: `go test ./cmd/quantize -run Golden -update` rewrites them.
func TestGolden(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unpackDemo(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rtn", "rtn-plain", "fp8"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := recipe.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, name)
			e := &env{out: io.Discard, err: io.Discard}
			if _, err := e.quantize(context.Background(), job{model: filepath.Join(dir, "base"), out: out, recipe: r}); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(out, packer.ManifestPath))
			if err != nil {
				t.Fatal(err)
			}
			m, err := packer.ParseManifest(data)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for tensor, hash := range m.Tensors {
				got[tensor] = hash[:16]
			}
			golden := filepath.Join("testdata", "golden", name+".json")
			if *update {
				writeGolden(t, golden, got)
			}
			var want map[string]string
			if data, err = os.ReadFile(golden); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("first 16 digits of sha256, -golden +now:\n%s", diff)
			}
			v, err := packer.Verify(t.Context(), out)
			if err != nil || !v.OK {
				t.Errorf("verify: %+v, %v", v, err)
			}
		})
	}
}

func writeGolden(t *testing.T, path string, v any) {
	t.Helper()
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
