package packer

import (
	"encoding/json"
	"fmt"

	"quantize/internal/fault"
	"quantize/model"
)

// edit is a member of config.json that the output has otherwise than the source.
type edit struct {
	key   string
	value []byte
}

// identify gives the one of the two names of a model that config.json leaves out, nil
// when none: we tell the model by either, vLLM wants architectures and transformers
// model_type.
func identify(config []byte, a *model.Arch) (e *edit, note string, err error) {
	var has struct {
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
	}
	if err := json.Unmarshal(config, &has); err != nil {
		return nil, "", &fault.Error{Err: ErrInvalid, Where: "config.json", Found: err.Error(), Wanted: "a JSON object"}
	}
	put := func(key string, value any) error {
		data, err := json.Marshal(value)
		e = &edit{key, data}
		note = fmt.Sprintf("config.json had no %s: %s is written, or runtimes do not load the result", key, data)
		return err
	}
	if len(has.Architectures) == 0 || has.Architectures[0] == "" {
		err = put("architectures", []string{a.Name})
	} else if has.ModelType == "" {
		err = put("model_type", a.ModelType)
	}
	return e, note, err
}
