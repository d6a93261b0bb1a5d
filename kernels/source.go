package kernels

import (
	"fmt"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/packer"
	"quantize/tensor"
)

// Source gives the weights of a checkpoint to c: quantized modules as
// [Backend.QuantLinear] multiplies them, the others, and a checkpoint without
// quantization_config, as model.FromCheckpoint does.
//
// a is the arithmetic of the modules whose scheme rounds activations to FP8:
// packer.LUT is vLLM's kernel, packer.Exact transformers' reading and our GPU
// kernel's, packer.WeightOnly what the second config file, w4a16/config.json,
// means over the same tensors. Modules with 16-bit activations have one reading.
//
// A quantized checkpoint and a c that is no [Backend], an unset arithmetic, and
// whatever else the configuration asks of the forward pass (an FP8 cache without a
// sidecar, online transforms, quantized outputs) are ErrUnsupported. Cache scales that
// are not the sidecar's are packer.ErrInvalid, a weight whose shape is not the config's
// is checkpoint.ErrInvalid.
func Source(r *checkpoint.Reader, c model.Compute, a packer.Arithmetic) (model.Source, error) {
	var sidecar *packer.Sidecar
	q, err := packer.ParseQuantizationConfig(r.ConfigJSON())
	if err == nil && q != nil {
		var cfg *model.Config
		if cfg, err = model.ParseConfig(r.ConfigJSON()); err == nil {
			sidecar, err = packer.ReadRuntime(r, cfg, q)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Dir(), err)
	}
	return SourceBeside(r, c, a, sidecar)
}

// SourceBeside is [Source] with the sidecar, or what stands for it, at hand: that of a
// checkpoint may not be written yet.
func SourceBeside(r *checkpoint.Reader, c model.Compute, a packer.Arithmetic, sidecar *packer.Sidecar) (model.Source, error) {
	plain := model.FromCheckpoint(r, c)
	q, err := packer.ParseQuantizationConfig(r.ConfigJSON())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Dir(), err)
	}
	if q == nil {
		return plain, nil
	}
	b, ok := c.(Backend)
	if !ok {
		return nil, &fault.Error{
			Err: ErrUnsupported, Where: r.Dir(), Found: "a quantized checkpoint", Wanted: "full precision",
			Hint: "this compute has no quantized linears; use kernels/cpu or kernels/ref",
		}
	}
	if a != packer.LUT && a != packer.Exact && a != packer.WeightOnly {
		return nil, unsupported(fmt.Sprintf("arithmetic %d", a), "lut, exact or weight-only")
	}
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Dir(), err)
	}
	if err := checkForwardPass(r, cfg, q, sidecar); err != nil {
		return nil, err
	}
	s := &source{Source: plain, reader: r, backend: b, arithmetic: a, config: q, expected: map[string][]int{}}
	for _, e := range model.Tensors(cfg) {
		s.expected[e.Name] = e.Shape
	}
	return s, nil
}

// checkForwardPass refuses what would change the results beside the linears, but for
// the cache that the sidecar, by which our own runs cache, describes too.
func checkForwardPass(r *checkpoint.Reader, c *model.Config, q *packer.QuantizationConfig, sidecar *packer.Sidecar) error {
	dir := r.Dir()
	refuse := func(found, wanted string) error {
		return &fault.Error{Err: ErrUnsupported, Where: dir + ": quantization_config", Found: found, Wanted: wanted}
	}
	if why := q.Private(); why != "" && (sidecar == nil || sidecar.Down == "") {
		return refuse(why, packer.SidecarPath+" with that rotation")
	}
	if q.KVCacheScheme != nil && sidecar == nil {
		return refuse("kv_cache_scheme", "null, or "+packer.SidecarPath+" with the same scales")
	}
	if err := packer.CheckCacheScales(r, c, q, sidecar); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if t := string(q.TransformConfig); t != "" && t != "null" && t != "{}" {
		return refuse("transform_config "+shortened(t), "{}")
	}
	return nil
}

func shortened(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// source reads quantized modules itself and everything else from the embedded
// full-precision source.
type source struct {
	model.Source
	reader     *checkpoint.Reader
	backend    Backend
	arithmetic packer.Arithmetic
	config     *packer.QuantizationConfig
	expected   map[string][]int // shapes by tensor name, as config.json has them
}

var _ model.RowReader = (*source)(nil)

func (s *source) Linear(name string) (model.Linear, error) {
	w, err := packer.ReadWeight(s.reader, name, s.config)
	if err != nil {
		return nil, err
	}
	if w == nil {
		return s.Source.Linear(name)
	}
	if n, k := w.Shape(); !slices.Equal([]int{n, k}, s.expected[name+".weight"]) {
		return nil, &fault.Error{
			Err: checkpoint.ErrInvalid, Where: s.where(name), Found: fmt.Sprintf("a quantized weight of shape %v", []int{n, k}),
			Wanted: fmt.Sprintf("%v, as config.json says", s.expected[name+".weight"]),
			Hint:   hintModels,
		}
	}
	bias, err := s.bias(name + ".bias")
	if err != nil {
		return nil, err
	}
	linear, err := s.backend.QuantLinear(w, s.arithmetic, bias)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return linear, nil
}

const hintModels = "config.json and the weights are of different models: `quantize verify` tells all that does not fit"

// bias reads a bias that the architecture has, and refuses one it has not.
func (s *source) bias(name string) ([]float32, error) {
	if _, wanted := s.expected[name]; wanted {
		b, err := s.Matrix(name)
		return b.Data, err
	}
	if s.reader.Has(name) {
		return nil, &fault.Error{
			Err: checkpoint.ErrInvalid, Where: s.where(name), Found: "a bias", Wanted: "none, as config.json says",
			Hint: hintModels,
		}
	}
	return nil, nil
}

// where names a tensor of a module, or one by its name, and its file.
func (s *source) where(name string) string {
	for _, stored := range []string{name, name + ".weight_packed", name + ".weight"} {
		if s.reader.Has(stored) {
			return stored + " in " + s.reader.File(stored)
		}
	}
	return name
}

// Rows reads rows of a matrix that is not quantized.
func (s *source) Rows(name string, from, to int) (tensor.Matrix, error) {
	return s.Source.(model.RowReader).Rows(name, from, to)
}
