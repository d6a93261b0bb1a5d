package modeltest

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

// Checkpoint is a checkpoint in memory. Tests may change it before they use it.
type Checkpoint struct {
	Config  []byte // config.json
	Tensors map[string]Tensor
}

// Tensor is a row-major FP32 tensor; [Random] makes values that BF16 holds exactly.
type Tensor struct {
	Shape []int
	Data  []float32
}

// Random returns the checkpoint of that shape and seed: weights of variance
// 1.5²/K, norms around 1, biases of standard deviation 1/2. Logits spread over
// several units, and a wrong norm, bias or head shows.
func Random(seed uint64, s Shape) *Checkpoint {
	c := &Checkpoint{Config: s.JSON(), Tensors: map[string]Tensor{}}
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, e := range model.Tensors(c.Parsed()) {
		data := make([]float32, e.Elements())
		for i := range data {
			v := rng.NormFloat64()
			switch e.Kind {
			case model.KindEmbedding:
			case model.KindLinear, model.KindHead, model.KindRouter:
				v *= 1.5 / math.Sqrt(float64(e.Shape[1]))
			case model.KindNorm:
				v = 1 + 0.3*v
			case model.KindBias:
				v *= 0.5
			}
			data[i] = tensor.BF16Value(tensor.BF16Bits(float32(v)))
		}
		c.Tensors[e.Name] = Tensor{Shape: e.Shape, Data: data}
	}
	return c
}

// Tokens returns n random tokens.
func Tokens(seed uint64, n, vocab int) []int32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	t := make([]int32, n)
	for i := range t {
		t[i] = rng.Int32N(int32(vocab))
	}
	return t
}

// Parsed returns the config; it panics on one that a test broke.
func (c *Checkpoint) Parsed() *model.Config {
	cfg, err := model.ParseConfig(c.Config)
	if err != nil {
		panic(err)
	}
	return cfg
}

// Names returns the tensor names, sorted.
func (c *Checkpoint) Names() []string {
	names := make([]string, 0, len(c.Tensors))
	for n := range c.Tensors {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Write makes dir a Hugging Face directory: config.json and one BF16
// model.safetensors. It is written without package checkpoint, so that tests
// of that package can read what it did not write itself.
func (c *Checkpoint) Write(dir string) error {
	type entry struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var body []byte
	for _, name := range c.Names() {
		t := c.Tensors[name]
		from := len(body)
		for _, v := range t.Data {
			body = binary.LittleEndian.AppendUint16(body, tensor.BF16Bits(v))
		}
		header[name] = entry{"BF16", t.Shape, [2]int{from, len(body)}}
	}
	head, err := json.Marshal(header)
	if err != nil {
		return err
	}
	for len(head)%8 != 0 {
		head = append(head, ' ')
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	file = append(append(file, head...), body...)
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), file, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), c.Config, 0o644)
}

// Source serves the tensors from memory; linears are made by compute.
func (c *Checkpoint) Source(compute model.Compute) model.Source {
	return &source{c, compute}
}

type source struct {
	c       *Checkpoint
	compute model.Compute
}

func (s *source) Linear(name string) (model.Linear, error) {
	w, err := s.Matrix(name + ".weight")
	if err != nil {
		return nil, err
	}
	return s.compute.Linear(w, s.c.Tensors[name+".bias"].Data), nil
}

func (s *source) Matrix(name string) (tensor.Matrix, error) {
	t, ok := s.c.Tensors[name]
	if !ok {
		return tensor.Matrix{}, &fault.Error{Err: checkpoint.ErrInvalid, Where: name, Found: "no tensor", Wanted: "one"}
	}
	rows := 1
	if len(t.Shape) == 2 {
		rows = t.Shape[0]
	}
	return tensor.MatrixOf(rows, len(t.Data)/rows, slices.Clone(t.Data)), nil
}
