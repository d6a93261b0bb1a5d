package format

import (
	"errors"
	"testing"

	"quantize/checkpoint"
	"quantize/packer"
)

// Whatever a configuration says, it is a format that can be used or an error
// that says why not.
func FuzzConfigurations(f *testing.F) {
	for _, seed := range []string{
		`{"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false, "sym": true, "checkpoint_format": "gptq", "dynamic": {"-:x": {}}}`,
		`{"quant_method": "gptq", "bits": 4, "group_size": -1, "format": "gptq_v2"}`,
		`{"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM", "modules_to_not_convert": null}`,
		`{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "W4A8_AWQ", "group_size": 128, "kv_cache_quant_algo": null}}`,
		`{"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}`,
		`{"quant_method": "compressed-tensors", "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}}}}`,
		`{"bits": 4, "group_size": 9223372036854775807}`, `[]`, `null`, `{"weight_block_size": null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		config := append(append([]byte(`{"quantization_config": `), raw...), '}')
		for name, parse := range map[string]func() (Format, error){
			"gptq":      func() (Format, error) { return parseGPTQ(raw) },
			"awq":       func() (Format, error) { return parseAWQ(raw) },
			"modelopt":  func() (Format, error) { return parseModelOpt(raw) },
			"fp8-block": func() (Format, error) { return parseFP8Block(raw) },
			packer.QuantMethod: func() (Format, error) {
				if q, err := packer.ParseQuantizationConfig(config); q == nil || err != nil {
					return nil, errors.Join(err, checkpoint.ErrInvalid)
				}
				f, _, err := parseCompressed(config)
				return f, err
			},
		} {
			got, err := parse()
			if err != nil {
				if !errors.Is(err, ErrRepresent) && !errors.Is(err, checkpoint.ErrInvalid) {
					t.Fatalf("%s: %v is of no kind", name, err)
				}
				continue
			}
			if got.Name() != name {
				t.Fatalf("%s is a %s", name, got.Name())
			}
			for _, field := range got.Fields(256, 256) {
				if field.Suffix == "" || len(field.DTypes) == 0 {
					t.Fatalf("%s: %+v", name, field)
				}
			}
		}
	})
}
