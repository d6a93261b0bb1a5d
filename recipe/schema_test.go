package recipe

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
)

// The schema takes every built-in recipe, and refuses what a typing error makes.
func TestSchema(t *testing.T) {
	t.Parallel()
	var s jsonschema.Schema
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(text []byte) error {
		t.Helper()
		var v map[string]any
		if err := yaml.Load(text, &v); err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var plain any
		if err := json.Unmarshal(data, &plain); err != nil {
			t.Fatal(err)
		}
		return r.Validate(plain)
	}
	for _, name := range Names() {
		text, err := Source(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{
		"scheme: W4A16", "{name: x, scheme: W4A4}", "{name: x, scheme: W4A16, weight: {}}",
		"{name: x, scheme: W4A16, weights: {group_size: 96}}", "{name: x, scheme: W4A16, kv: {format: int2}}",
		"{name: x, scheme: W4A16, smoothing: {pairs: [up]}}",
	} {
		if check([]byte(text)) == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}

// docs/recipe.schema.json is what editors are pointed at: `quantize recipe
// schema` prints it anew.
func TestSchemaFileIsFresh(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "docs", "recipe.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, Schema()) {
		t.Error("docs/recipe.schema.json is stale: go run ./cmd/quantize recipe schema > docs/recipe.schema.json")
	}
}
