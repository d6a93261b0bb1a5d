package format

import (
	"encoding/json"
	"fmt"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/packer"
)

// hfQuantConfig is hf_quant_config.json.
type hfQuantConfig struct {
	Producer     producer     `json:"producer"`
	Quantization quantization `json:"quantization"`
}

type producer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type quantization struct {
	Algo      string   `json:"quant_algo"`
	KVAlgo    *string  `json:"kv_cache_quant_algo"`
	GroupSize int      `json:"group_size,omitempty"`
	ZeroPoint *bool    `json:"has_zero_point,omitempty"`
	PreScale  *bool    `json:"pre_quant_scale,omitempty"`
	Excluded  []string `json:"exclude_modules"`
}

const hfQuantFile = "hf_quant_config.json"

// modeloptVersion is the version whose layout is written; TensorRT-LLM does not
// act on it.
const modeloptVersion = "0.40.0"

// Files takes quantization_config out of config.json and writes
// hf_quant_config.json, which TensorRT-LLM looks for first.
func (W4A8AWQ) Files(source []byte, d Description) (map[string][]byte, error) {
	no, yes := false, true
	return modeloptFiles(source, d, quantization{Algo: "W4A8_AWQ", GroupSize: 128, ZeroPoint: &no, PreScale: &yes})
}

func modeloptFiles(source []byte, d Description, q quantization) (map[string][]byte, error) {
	q.Excluded = d.withHead()
	if d.FP8KV {
		fp8 := "FP8"
		q.KVAlgo = &fp8
	}
	return configFiles(source, nil, hfQuantFile, hfQuantConfig{producer{"modelopt", modeloptVersion}, q})
}

func parseModelOpt(raw json.RawMessage) (Format, error) {
	if err := checkpoint.UniqueKeys(raw); err != nil {
		return nil, &fault.Error{Err: packer.ErrInvalid, Where: hfQuantFile, Found: err.Error(), Wanted: "each key once", Hint: "remove the one that is not meant"}
	}
	var c hfQuantConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, invalid(hfQuantFile, err.Error(), "what modelopt writes")
	}
	switch q := c.Quantization; {
	case q.Algo == "W4A8_AWQ" && (q.GroupSize == 128 || q.GroupSize == 0):
		return W4A8AWQ{}, nil
	case q.Algo == "FP8":
		return FP8Static{}, nil
	case q.Algo == "FP8_PER_CHANNEL_PER_TOKEN":
		return FP8Rows{}, nil
	default:
		return nil, refuse(hfQuantFile+" quant_algo", fmt.Sprintf("%q, group size %d", q.Algo, q.GroupSize), "W4A8_AWQ with groups of 128, FP8 or FP8_PER_CHANNEL_PER_TOKEN", "")
	}
}
