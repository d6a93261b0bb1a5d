package format

import (
	"encoding/json"

	"quantize/packer"
)

const configFile = "config.json"

// configFiles gives config.json with value as its quantization_config (none when
// nil) and, if it has a name, a second file.
func configFiles(source []byte, value any, second string, content any) (map[string][]byte, error) {
	config, err := packer.ReplaceQuantizationConfig(source, value)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{configFile: config}
	if second != "" {
		data, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return nil, err
		}
		files[second] = append(data, '\n')
	}
	return files, nil
}

// withFused lists the ignored linears of the blocks and the layers that runtimes
// merge them into. The head is left out: these formats quantize it only where they
// say so.
func (d Description) withFused() []string {
	return append(append([]string(nil), d.Ignored...), packer.FusedNames(d.Ignored)...)
}

// withHead lists the ignored linears and the head.
func (d Description) withHead() []string {
	return append(append([]string{}, d.Ignored...), d.Head)
}
