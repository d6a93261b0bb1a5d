package packer

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// Runtimes choose their code by names that we can do without.
func TestExportNamesTheArchitecture(t *testing.T) {
	for _, c := range []struct{ name, old, replacement, key string }{
		{"both", `"architectures"`, `"architectures"`, ""},
		{"architectures null", `"architectures": ["LlamaForCausalLM"]`, `"architectures": null`, "architectures"},
		{"architectures empty", `"architectures": ["LlamaForCausalLM"]`, `"architectures": []`, "architectures"},
		{"an empty architecture", `["LlamaForCausalLM"]`, `[""]`, "architectures"},
		{"no architectures", `"architectures": ["LlamaForCausalLM"],`, ``, "architectures"},
		{"no model_type", `"model_type": "llama",`, ``, "model_type"},
		{"model_type null", `"model_type": "llama"`, `"model_type": null`, "model_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := tiny(t, 128, 128, true)
			made.replace(configPath, c.old, c.replacement)
			r := open(t, made.write(t))
			out := filepath.Join(t.TempDir(), "out")
			rep, err := Export(context.Background(), r, out, options(t, r, W4A8))
			if err != nil {
				t.Fatal(err)
			}
			demandOK(t, out)
			for _, rel := range []string{configPath, weightOnlyPath} {
				var got struct {
					Architectures []string
					ModelType     string `json:"model_type"`
				}
				if err := json.Unmarshal([]byte(snapshot(t, out)[rel]), &got); err != nil || strings.Join(got.Architectures, " ") != "LlamaForCausalLM" || got.ModelType != "llama" {
					t.Errorf("%s: %+v, %v", rel, got, err)
				}
			}
			if notes := strings.Join(rep.Notes, "\n"); strings.Contains(notes, "config.json had no") != (c.key != "") || !strings.Contains(notes, c.key) {
				t.Errorf("notes:\n%s", notes)
			}
		})
	}
}
