package main

import (
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/tensor"
)

// widest is how wide measureForward makes a block at most: it shall take little time and
// memory whatever the model.
const widest = 1024

// mostExperts are as many as it makes in such a block.
const mostExperts = 16

// measureForward gives 2 operations a weight and token over the time of a block of cfg on a
// window of tokens, in GFLOP/s. A narrower block's attention weighs more than the model's.
// Its weights have so many bits: fast kernels multiply those of fewer in less time.
func measureForward(c *cpu.Compute, cfg *model.Config, window, bits int) (float64, error) {
	narrow := narrowed(cfg)
	src, weights := madeUp{c, map[string][]int{}, bits}, 0.0
	for _, t := range model.Tensors(narrow) {
		src.shapes[t.Name] = t.Shape
		if t.Kind != model.KindLinear {
			continue
		}
		active := float64(t.Shape[0]) * float64(t.Shape[1])
		if t.Role >= model.RoleExpertGate {
			active *= float64(narrow.ExpertsPerToken) / float64(narrow.Experts)
		}
		weights += active
	}
	m, err := model.New(narrow, src, c)
	if err != nil {
		return 0, err
	}
	block, err := m.Block(0)
	if err != nil {
		return 0, err
	}
	x := filled(window, narrow.Hidden, float32Bits)
	forward := mean(func() { block.Forward(x, nil) })
	return 2 * weights * float64(window) / forward.Seconds() / 1e9, nil
}

// narrowed is the model with one block, which has experts where any has, no wider than widest.
func narrowed(cfg *model.Config) *model.Config {
	n := *cfg
	limit := widest
	if cfg.Experts > 0 {
		limit /= 2 // there are several
	}
	by := (cfg.Hidden + limit - 1) / limit
	group := cfg.Heads / cfg.KVHeads
	n.KVHeads = max(1, cfg.KVHeads/by)
	n.Heads = n.KVHeads * group
	n.Hidden, n.Intermediate, n.ExpertWidth = cfg.Hidden/by, max(1, cfg.Intermediate/by), max(1, cfg.ExpertWidth/by)
	n.Layers, n.Sliding = 1, nil
	n.SlidingWindow = 0
	n.Experts = min(cfg.Experts, mostExperts)
	n.ExpertsPerToken = min(cfg.ExpertsPerToken, n.Experts)
	if n.Sparse != nil {
		n.Sparse = []bool{true}
	}
	return &n
}

// madeUp has weights of no meaning.
type madeUp struct {
	compute *cpu.Compute
	shapes  map[string][]int
	bits    int
}

func (s madeUp) Linear(name string) (model.Linear, error) {
	w, err := s.Matrix(name + ".weight")
	if err != nil {
		return nil, err
	}
	var bias []float32
	if shape, ok := s.shapes[name+".bias"]; ok {
		bias = make([]float32, shape[0])
	}
	return s.compute.Linear(w, bias), nil
}

func (s madeUp) Matrix(name string) (tensor.Matrix, error) {
	shape := s.shapes[name]
	if len(shape) == 1 {
		return filled(1, shape[0], s.bits), nil
	}
	return filled(shape[0], shape[1], s.bits), nil
}

// Bits of the weights of a model: as stored in BF16, of codes times scales, and of any float32.
const (
	bf16Bits    = 8
	roundedBits = 12
	float32Bits = 24
)

// filled has values below one of so many bits, no two neighbours alike.
func filled(rows, cols, bits int) tensor.Matrix {
	m := tensor.NewMatrix(rows, cols)
	for i := range m.Data {
		m.Data[i] = float32(uint32(i)*2654435761>>(32-bits)) / float32(uint32(1)<<bits)
	}
	return m
}
