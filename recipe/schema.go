package recipe

import (
	"encoding/json"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema returns the JSON schema (draft 2020-12) of a recipe file, indented: the
// fields and the words of each, for editors that complete and check YAML. What
// depends on several fields is checked by [Recipe.Validate] alone.
func Schema() []byte {
	types := map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Scheme]():     words(schemes.text[1:]),
		reflect.TypeFor[Grid]():       words(grids.text[1:]),
		reflect.TypeFor[Rounding]():   words(roundings.text[1:]),
		reflect.TypeFor[Importance](): words(importances.text[1:]),
		reflect.TypeFor[Target]():     words(targets),
		reflect.TypeFor[Turn]():       words(turns),
		reflect.TypeFor[RopeMethod](): words(ropeMethods),
		reflect.TypeFor[Statistic]():  words(statistics),
		reflect.TypeFor[Method]():     words(methods),
		reflect.TypeFor[Pair]():       words(pairs),
		reflect.TypeFor[KVFormat]():   words(kvFormats),

		reflect.TypeFor[Plan]():          words(plans),
		reflect.TypeFor[AttentionMode](): words(attentionModes),

		reflect.TypeFor[GroupSize](): {Enum: []any{"auto", 128, 64, 32}},
	}
	s, err := jsonschema.For[Recipe](&jsonschema.ForOptions{TypeSchemas: types})
	if err != nil {
		panic("recipe: no schema: " + err.Error())
	}
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "quantize recipe"
	relax(s)
	s.Required = []string{"name", "scheme"}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("recipe: schema does not encode: " + err.Error())
	}
	return append(data, '\n')
}

func words[S ~[]string](list S) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, w := range list {
		s.Enum = append(s.Enum, w)
	}
	return s
}

// relax demands nothing: a file lies over the defaults of its scheme.
func relax(s *jsonschema.Schema) {
	s.Required = nil
	for _, p := range s.Properties {
		relax(p)
	}
}
