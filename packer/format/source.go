package format

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/packer"
)

// Source is a quantized checkpoint in any of the formats.
type Source struct {
	*checkpoint.Reader
	Model     *model.Config
	Format    Format
	Quantized []packer.LinearShape // in the order of computation
	Ignored   []string             // the other linears of the blocks
	Manifest  *packer.Manifest     // nil when another program made the checkpoint

	quant *packer.QuantizationConfig // of compressed-tensors
}

// Open finds out how a checkpoint is quantized: from quantization_config in
// config.json or, where that says nothing, from hf_quant_config.json. Full
// precision, an unknown method and shards of a merged layer that disagree are
// [packer.ErrInvalid]; a method with settings that are not read is ErrRepresent.
func Open(r *checkpoint.Reader) (*Source, error) {
	s := &Source{Reader: r}
	var err error
	if s.Model, err = model.ParseConfig(r.ConfigJSON()); err != nil {
		return nil, err
	}
	if s.Format, s.quant, err = detect(r); err != nil {
		return nil, err
	}
	stored := map[string]bool{}
	var linears []string
	for _, e := range model.Tensors(s.Model) {
		if e.Kind != model.KindLinear {
			continue
		}
		linears = append(linears, e.Module)
		if stored[e.Module] = Holds(s.Format, r, e.Module); stored[e.Module] {
			s.Quantized = append(s.Quantized, packer.LinearShape{Name: e.Module, N: e.Shape[0], K: e.Shape[1]})
		} else {
			s.Ignored = append(s.Ignored, e.Module)
		}
	}
	bad := packer.FusedFaults(linears, func(m string) string {
		if stored[m] {
			return "quantized"
		}
		return ""
	})
	if len(bad) > 0 {
		return nil, &fault.Error{Err: packer.ErrInvalid, Where: bad[0]}
	}
	if len(s.Quantized) == 0 {
		return nil, invalid(r.Dir(), "no quantized linear", "tensors of format "+s.Format.Name())
	}
	return s, s.readManifest()
}

// Read reads the weight of a quantized linear.
func (s *Source) Read(l packer.LinearShape) (packer.Weight, error) {
	return Read(s.Reader, s.Format, l.Name, l.N, l.K)
}

// fullPrecision names the tensors of the model that are not packed linears.
func (s *Source) fullPrecision() (names []string) {
	packed := map[string]bool{}
	for _, l := range s.Quantized {
		packed[l.Name] = true
	}
	for _, e := range model.Tensors(s.Model) {
		if e.Kind != model.KindLinear || !packed[e.Module] {
			names = append(names, e.Name)
		}
	}
	return names
}

// readManifest takes what this program wrote beside its own exports.
func (s *Source) readManifest() error {
	data, err := os.ReadFile(filepath.Join(s.Dir(), filepath.FromSlash(packer.ManifestPath)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		s.Manifest, err = packer.ParseManifest(data)
	}
	return err
}

// Method returns quant_method of a config.json, "modelopt" where only
// hf_quant_config.json lies beside it, "" for full precision.
func Method(r *checkpoint.Reader) (string, error) {
	method, _, err := configuration(r)
	return method, err
}

// configuration finds the method and the JSON that describes it.
func configuration(r *checkpoint.Reader) (method string, raw json.RawMessage, err error) {
	var outer struct {
		Quantization json.RawMessage `json:"quantization_config"`
		Compression  json.RawMessage `json:"compression_config"`
	}
	if err := json.Unmarshal(r.ConfigJSON(), &outer); err != nil {
		return "", nil, invalid(configFile, err.Error(), "a JSON object")
	}
	for _, raw := range []json.RawMessage{outer.Quantization, outer.Compression} {
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		var m struct {
			Method string `json:"quant_method"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return "", nil, invalid(configFile+" quantization_config", err.Error(), "an object with quant_method")
		}
		return m.Method, raw, nil
	}
	path := filepath.Join(r.Dir(), hfQuantFile)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err == nil && (!st.Mode().IsRegular() || st.Size() > largestConfig) {
		return "", nil, invalid(path, fmt.Sprintf("%d bytes", st.Size()), fmt.Sprintf("a file of at most %d", largestConfig))
	}
	if err == nil {
		raw, err = os.ReadFile(path)
	}
	return "modelopt", raw, err
}

// largestConfig bounds what is parsed.
const largestConfig = 16 << 20

func detect(r *checkpoint.Reader) (Format, *packer.QuantizationConfig, error) {
	method, raw, err := configuration(r)
	if err != nil {
		return nil, nil, err
	}
	var f Format
	switch method {
	case packer.QuantMethod:
		return parseCompressed(r.ConfigJSON())
	case "gptq":
		f, err = parseGPTQ(raw)
	case "awq":
		f, err = parseAWQ(raw)
	case "modelopt":
		f, err = parseModelOpt(raw)
	case "fp8":
		f, err = parseFP8Block(raw)
	case "":
		err = invalid(configFile, "a checkpoint that is not quantized", "a quantized one")
	default:
		err = invalid(configFile+" quantization_config.quant_method", fmt.Sprintf("%q", method), "compressed-tensors, gptq, awq, modelopt or fp8")
	}
	return f, nil, err
}
