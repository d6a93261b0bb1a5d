package kernels_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/kernels/ref"
	"quantize/model"
	"quantize/model/modeltest"
	"quantize/packer"
	"quantize/tensor"
)

// small is a Qwen2 (biases on q, k, v) whose sizes 128 divides.
var small = modeltest.Shape{Family: "qwen2", Hidden: 128, Intermediate: 256, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 32, Vocab: 64, Tied: true}

// export writes a random model quantized to s, without the linear keep, and
// returns the directory.
func export(t *testing.T, s packer.Scheme, keep string) string {
	t.Helper()
	dir := t.TempDir()
	base, out := filepath.Join(dir, "base"), filepath.Join(dir, "out")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	c := modeltest.Random(1, small)
	if err := c.Write(base); err != nil {
		t.Fatal(err)
	}
	r := open(t, base)
	m, err := model.New(c.Parsed(), c.Source(ref.New()), ref.New())
	if err != nil {
		t.Fatal(err)
	}
	var linears []string
	for _, l := range m.Linears() {
		if !strings.HasSuffix(l, keep) {
			linears = append(linears, l)
		}
	}
	_, err = packer.Export(context.Background(), r, out, packer.ExportOptions{
		Model: c.Parsed(), Scheme: s, Linears: linears, Int4: packer.Int4Options{Grid: packer.GridLUT, Search: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, dir string) *checkpoint.Reader {
	t.Helper()
	r, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// outputs runs every linear of a checkpoint on the same activations.
func outputs(t *testing.T, dir string, c model.Compute, a packer.Arithmetic) map[string]tensor.Matrix {
	t.Helper()
	r := open(t, dir)
	s, err := kernels.Source(r, c, a)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := model.ParseConfig(r.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]tensor.Matrix{}
	for _, e := range model.Tensors(cfg) {
		if e.Kind != model.KindLinear {
			continue
		}
		l, err := s.Linear(e.Module)
		if err != nil {
			t.Fatal(err)
		}
		n, k := l.Shape()
		x, y := tensor.NewMatrix(5, k), tensor.NewMatrix(5, n)
		rng := rand.New(rand.NewPCG(3, 3))
		for i := range x.Data {
			x.Data[i] = float32(rng.NormFloat64())
		}
		l.Forward(y, x)
		all[e.Module] = y
	}
	return all
}

// distance is the relative root mean square difference.
func distance(a, b tensor.Matrix) float64 {
	d, s := 0.0, 0.0
	for i, v := range a.Data {
		d += math.Pow(float64(v-b.Data[i]), 2)
		s += math.Pow(float64(v), 2)
	}
	return math.Sqrt(d / s)
}

func TestSourceReadsEveryScheme(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := modeltest.Random(1, small).Write(dir); err != nil {
		t.Fatal(err)
	}
	full := outputs(t, dir, ref.New(), 0)
	for _, c := range []struct {
		scheme    packer.Scheme
		a         packer.Arithmetic
		low, high float64 // distance from full precision that the format explains
	}{
		{packer.W4A8, packer.LUT, 0.05, 0.2},
		{packer.W4A8, packer.Exact, 0.05, 0.2},
		{packer.W4A8, packer.WeightOnly, 0.05, 0.2},
		{packer.W4A16, packer.LUT, 0.05, 0.2},
		{packer.FP8, packer.Exact, 0.01, 0.06},
	} {
		out := export(t, c.scheme, "o_proj")
		got, fast := outputs(t, out, ref.New(), c.a), outputs(t, out, cpu.New(), c.a)
		for name, y := range got {
			d := distance(full[name], y)
			switch {
			case strings.HasSuffix(name, "o_proj"):
				if d != 0 {
					t.Errorf("%v: %s is not quantized but differs by %g", c.scheme, name, d)
				}
			case d < c.low || d > c.high:
				t.Errorf("%v, arithmetic %d: %s differs from full precision by %g, want %g to %g", c.scheme, c.a, name, d, c.low, c.high)
			}
			if d := distance(y, fast[name]); d > 1e-6 {
				t.Errorf("%v, arithmetic %d: %s differs between ref and cpu by %g", c.scheme, c.a, name, d)
			}
		}
	}
}

// The second config file reads the same tensors; WeightOnly must be that reading.
func TestWeightOnlyIsTheSecondConfig(t *testing.T) {
	t.Parallel()
	out := export(t, packer.W4A8, "-")
	direct := outputs(t, out, ref.New(), packer.WeightOnly)
	second, err := os.ReadFile(filepath.Join(out, "w4a16", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	lut := outputs(t, out, ref.New(), packer.LUT)
	if err := os.WriteFile(filepath.Join(out, "config.json"), second, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, y := range outputs(t, out, ref.New(), packer.LUT) {
		if d := distance(y, direct[name]); d != 0 {
			t.Errorf("%s: the W4A16 config gives another output, by %g", name, d)
		}
		if d := distance(y, lut[name]); d < 1e-3 {
			t.Errorf("%s: FP8 activations made no difference (%g)", name, d)
		}
	}
}

func TestSourceRefuses(t *testing.T) {
	t.Parallel()
	out := export(t, packer.W4A8, "-")
	config, err := os.ReadFile(filepath.Join(out, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		compute  model.Compute
		a        packer.Arithmetic
		old, new string // an edit of config.json
		in       string // what the message names
	}{
		"a compute without quantized linears": {modeltest.Compute(), packer.LUT, "", "", "quantized checkpoint"},
		"no arithmetic":                       {ref.New(), 0, "", "", "arithmetic 0"},
		"an online transform":                 {ref.New(), packer.LUT, `"transform_config": {}`, `"transform_config": {"config_groups": {"R1": {}}}`, "transform_config"},
	} {
		edited := strings.Replace(string(config), c.old, c.new, 1)
		if c.old != "" && edited == string(config) {
			t.Fatalf("%s: config.json has no %s", name, c.old)
		}
		if err := os.WriteFile(filepath.Join(out, "config.json"), []byte(edited), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := kernels.Source(open(t, out), c.compute, c.a)
		if !errors.Is(err, kernels.ErrUnsupported) || !strings.Contains(err.Error(), c.in) {
			t.Errorf("%s: error %v, want ErrUnsupported naming %q", name, err, c.in)
		}
	}
}

// A kv_cache_scheme is read where the sidecar, by which our own runs cache, says the
// same, and refused where it does not; without a sidecar it says it alone.
func TestSourceWantsTheSidecarsCache(t *testing.T) {
	t.Parallel()
	plain := open(t, export(t, packer.W4A8, "-"))
	cfg, err := model.ParseConfig(plain.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	q, err := packer.ParseQuantizationConfig(plain.ConfigJSON())
	if err != nil {
		t.Fatal(err)
	}
	fp8 := packer.KVScheme{Format: packer.KVFP8}
	q.KVCacheScheme = fp8.CacheScheme()
	config, err := packer.WithQuantizationConfig(plain.ConfigJSON(), q)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []checkpoint.Info
	for layer := range cfg.Layers {
		infos, err := packer.CacheScaleTensors(cfg, layer, packer.StrategyTensor)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, infos...)
	}
	dir := filepath.Join(t.TempDir(), "cached")
	w, err := checkpoint.Create(dir, tensors, checkpoint.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range tensors {
		if err := w.Add(info.Name, []byte{0, 0, 0, 0x3f}); err != nil { // 0.5
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.File("config.json", config), w.Commit()); err != nil {
		t.Fatal(err)
	}
	scales := func(x float32) []float32 { return slices.Repeat([]float32{x}, cfg.Layers) }
	r := open(t, dir)
	same := &packer.Sidecar{KV: fp8, KScales: scales(0.5), VScales: scales(0.5)}
	if s, err := packer.ReadRuntime(r, cfg, q); err != nil || cmp.Diff(s, same) != "" {
		t.Errorf("of the checkpoint alone: %+v, %v", s, err)
	}
	if _, err := kernels.Source(r, ref.New(), packer.LUT); err != nil {
		t.Errorf("without a sidecar: %v", err)
	}
	for name, c := range map[string]struct {
		s    *packer.Sidecar
		want error
	}{
		"the same":       {same, nil},
		"another scale":  {&packer.Sidecar{KV: fp8, KScales: scales(0.5), VScales: scales(0.25)}, packer.ErrInvalid},
		"another format": {&packer.Sidecar{KV: packer.KVScheme{Format: packer.KVInt4}}, packer.ErrInvalid},
		"no sidecar":     {nil, kernels.ErrUnsupported},
	} {
		if _, err := kernels.SourceBeside(r, ref.New(), packer.LUT, c.s); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A config.json that does not fit the tensors is caught before they are used.
func TestSourceWantsTheConfigsShapes(t *testing.T) {
	t.Parallel()
	out := export(t, packer.W4A8, "-")
	config, err := os.ReadFile(filepath.Join(out, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(config), `"intermediate_size": 256`, `"intermediate_size": 384`, 1)
	if err := os.WriteFile(filepath.Join(out, "config.json"), []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := kernels.Source(open(t, out), ref.New(), packer.LUT)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Linear("model.layers.0.mlp.up_proj")
	var f *fault.Error
	if !errors.Is(err, checkpoint.ErrInvalid) || !errors.As(err, &f) || f.Where != "model.layers.0.mlp.up_proj.weight_packed in "+filepath.Join(out, "model.safetensors") ||
		f.Found != "a quantized weight of shape [256 128]" || f.Wanted != "[384 128], as config.json says" || f.Hint == "" {
		t.Errorf("error %v, want checkpoint.ErrInvalid with file, tensor and hint", err)
	}
	if _, err := s.Linear("model.layers.0.self_attn.q_proj"); err != nil {
		t.Errorf("a linear that fits: %v", err)
	}
}
