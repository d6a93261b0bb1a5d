package packer

import (
	"slices"
	"strings"
	"testing"
)

func TestFusedFaults(t *testing.T) {
	modules := []string{"l.0.attn.q_proj", "l.0.attn.k_proj", "l.0.attn.v_proj", "l.0.attn.o_proj", "l.0.mlp.gate_proj", "l.0.mlp.up_proj", "l.0.mlp.down_proj"}
	for _, c := range []struct {
		name string
		odd  map[string]string // modules that are not "int4"
		want []string          // merged layers told, in order
	}{
		{"all alike", nil, nil},
		{"o and down may differ", map[string]string{"l.0.attn.o_proj": "", "l.0.mlp.down_proj": "fp8"}, nil},
		{"q alone quantized", map[string]string{"l.0.attn.k_proj": "", "l.0.attn.v_proj": ""}, []string{"l.0.attn.qkv_proj"}},
		{"v in another scheme", map[string]string{"l.0.attn.v_proj": "fp8"}, []string{"l.0.attn.qkv_proj"}},
		{"up without gate", map[string]string{"l.0.mlp.gate_proj": ""}, []string{"l.0.mlp.gate_up_proj"}},
		{"both", map[string]string{"l.0.attn.q_proj": "", "l.0.mlp.up_proj": "fp8"}, []string{"l.0.attn.qkv_proj", "l.0.mlp.gate_up_proj"}},
		{"none quantized", map[string]string{"l.0.attn.q_proj": "", "l.0.attn.k_proj": "", "l.0.attn.v_proj": ""}, nil},
	} {
		got := FusedFaults(modules, func(m string) string {
			if s, ok := c.odd[m]; ok {
				return s
			}
			return "int4"
		})
		var layers []string
		for _, g := range got {
			layers = append(layers, strings.SplitN(g, ":", 2)[0])
		}
		if !slices.Equal(layers, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if got := FusedNames(modules); !slices.Equal(got, []string{"l.0.attn.qkv_proj", "l.0.mlp.gate_up_proj"}) {
		t.Errorf("%q", got)
	}
}

// What vLLM finds under the name of a merged layer (docs/formats.md 8).
func TestFusedScheme(t *testing.T) {
	const layer = "m.0.attn.qkv_proj"
	shards := []string{"m.0.attn.q_proj", "m.0.attn.k_proj", "m.0.attn.v_proj"}
	group := func(targets ...string) *QuantizationScheme { return &QuantizationScheme{Targets: targets} }
	for _, c := range []struct {
		name   string
		ignore []string
		groups map[string]*QuantizationScheme
		want   string // name of the group, "" for none
		fails  bool
	}{
		{"class", nil, map[string]*QuantizationScheme{"a": group("Linear")}, "a", false},
		{"all shards ignored", []string{"re:.*attn"}, map[string]*QuantizationScheme{"a": group("Linear")}, "", false},
		{"the layer ignored by name", []string{layer}, map[string]*QuantizationScheme{"a": group("Linear")}, "", false},
		{"one shard ignored", []string{shards[2]}, map[string]*QuantizationScheme{"a": group("Linear")}, "", true},
		{"expressions of the shards", nil, map[string]*QuantizationScheme{"a": group(`re:.*\.(q|k|v)_proj$`)}, "a", false},
		{"an expression of one shard", nil, map[string]*QuantizationScheme{"a": group(`re:.*\.q_proj$`)}, "", false},
		{"v_proj catches qkv_proj too", nil, map[string]*QuantizationScheme{"a": group("re:.*v_proj$"), "b": group(`re:.*\.(q|k)_proj$`)}, "a", false},
		{"a class wins over shards", nil, map[string]*QuantizationScheme{"a": group("Linear"), "b": group(`re:.*\.(q|k|v)_proj$`)}, "a", false},
		{"a name wins over a class", nil, map[string]*QuantizationScheme{"a": group("Linear"), "b": group("re:.*qkv_proj$")}, "b", false},
	} {
		q := &QuantizationConfig{Ignore: c.ignore, ConfigGroups: c.groups}
		s, err := q.fusedScheme(layer, shards)
		if (err != nil) != c.fails || s != c.groups[c.want] {
			t.Errorf("%s: %v, %v", c.name, s, err)
		}
	}
}
