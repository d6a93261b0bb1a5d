package format

import (
	"encoding/json"
	"slices"

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

// withFused lists the ignored linears of the blocks, the layers that runtimes
// merge them into, and routers. The head is left out: these formats quantize it only where they
// say so.
func (d Description) withFused() []string {
	return slices.Concat(d.Ignored, packer.FusedNames(d.Ignored), d.Routers)
}

// withHead lists the ignored linears, the head and routers.
func (d Description) withHead() []string {
	return append(append(append([]string{}, d.Ignored...), d.Head), d.Routers...)
}

// patterns is withHead with the routers as an export of this program has them.
func (d Description) patterns() []string {
	out := append(append([]string{}, d.Ignored...), d.Head)
	if len(d.Routers) > 0 {
		out = append(out, packer.RouterPattern)
	}
	return out
}
