package model

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

// TestInvFreqEqualsTransformers allows one ulp: torch's float32 pow and ours
// need not round alike. The cos/sin factor is a double in both.
func TestInvFreqEqualsTransformers(t *testing.T) {
	data, err := os.ReadFile("testdata/rope.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		HeadDim         int             `json:"head_dim"`
		Parameters      json.RawMessage `json:"rope_parameters"`
		AttentionFactor float64         `json:"attention_factor"`
		InvFreq         []float32       `json:"inv_freq"`
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 10 {
		t.Fatalf("%d cases, want 10", len(cases))
	}
	for _, c := range cases {
		t.Run(string(c.Parameters), func(t *testing.T) {
			cfg, err := ParseConfig(fmt.Appendf(nil, `{"architectures": ["LlamaForCausalLM"], "hidden_size": 256,
				"intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8,
				"max_position_embeddings": 131072, "head_dim": %d, "rope_parameters": %s}`, c.HeadDim, c.Parameters))
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.Rope.AttentionFactor; math.Abs(got-c.AttentionFactor) > 1e-15 {
				t.Errorf("attention factor %v, want %v", got, c.AttentionFactor)
			}
			got := cfg.Rope.InvFreq(c.HeadDim)
			if len(got) != len(c.InvFreq) {
				t.Fatalf("%d frequencies, want %d", len(got), len(c.InvFreq))
			}
			for i, want := range c.InvFreq {
				if ulps := int(math.Float32bits(got[i])) - int(math.Float32bits(want)); ulps < -1 || ulps > 1 {
					t.Errorf("frequency %d: %v, want %v (%d ulp)", i, got[i], want, ulps)
				}
			}
		})
	}
}
