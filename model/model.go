package model

import (
	"errors"
	"fmt"

	"quantize/internal/fault"
	"quantize/tensor"
)

// ErrInput marks tokens that a model cannot take.
var ErrInput = errors.New("invalid model input")

// Model runs the architecture of a config on the weights of a source. It holds
// no weights itself: blocks, embedding and head are loaded when asked for.
type Model struct {
	Config  *Config
	source  Source
	compute Compute
	between Elementwise
	rotary  *rotary
	runtime Runtime
}

// Runtime is what a target does between the linears beside the model's own
// arithmetic. The zero value does nothing. The functions are called for one window at
// a time; Cache and DownIn change their arguments in place.
type Runtime struct {
	// Cache rounds keys and values, rotary embedding applied, to what the cache
	// keeps of them, and queries where the kernel rounds them. q is
	// (M, Heads*HeadDim), k and v are (M, KVHeads*HeadDim).
	Cache func(layer int, q, k, v tensor.Matrix)
	// Attend is Compute.Attend by layer, of what Cache has left; nil: the model's
	// Compute attends.
	Attend func(layer int, dst, q, k, v tensor.Matrix, a Attention)
	// DownIn rotates the input (M, Intermediate) of down (methods.md 3.4, R4), or of
	// every expert's down.
	DownIn func(x tensor.Matrix)
}

// WithRuntime returns the same model on a target that does r.
func (m *Model) WithRuntime(r Runtime) *Model {
	c := *m
	c.runtime = r
	return &c
}

// New makes a model. c does attention and, if it is an [Elementwise], the work
// between the linears; the linears themselves come from src.
func New(cfg *Config, src Source, c Compute) (*Model, error) {
	if cfg == nil || cfg.Arch == nil {
		return nil, &fault.Error{Err: ErrConfig, Where: configFile, Found: "no config", Wanted: "one made by ParseConfig"}
	}
	m := &Model{Config: cfg, source: src, compute: c, between: plain{}, rotary: newRotary(cfg.Rope, cfg.HeadDim, cfg.Arch.Pairing)}
	if e, ok := c.(Elementwise); ok {
		m.between = e
	}
	return m, nil
}

// Linears names every linear of every block in the order of computation: what
// can be quantized. The head is not among them.
func (m *Model) Linears() []string {
	var names []string
	for layer := range m.Config.Layers {
		names = append(names, m.LinearsOf(layer)...)
	}
	return names
}

// LinearsOf names the linears of one block in the order of computation.
func (m *Model) LinearsOf(layer int) []string {
	rules := m.Config.Linears(layer)
	names := make([]string, len(rules))
	for i, l := range rules {
		names[i] = m.Config.prefix(layer) + l.Name
	}
	return names
}

// Block loads decoder block i.
func (m *Model) Block(i int) (*Block, error) {
	c, a := m.Config, m.Config.Arch
	if i < 0 || i >= c.Layers {
		return nil, &fault.Error{Err: ErrInput, Where: "layer", Found: fmt.Sprint(i), Wanted: fmt.Sprintf("0 to %d", c.Layers-1)}
	}
	b := &Block{Layer: i, model: m}
	prefix := c.prefix(i)
	var err error
	norm := func(name string, n int) []float32 {
		if err != nil || name == "" {
			return nil
		}
		var w []float32
		w, err = m.vector(prefix+name+".weight", n)
		return w
	}
	b.attnNorm = norm(a.AttnNorm, c.Hidden)
	b.mlpNorm = norm(a.MLPNorm, c.Hidden)
	b.qNorm = norm(a.QNorm, c.HeadDim)
	b.kNorm = norm(a.KNorm, c.HeadDim)
	if err != nil {
		return nil, err
	}
	linear := func(name string, n, k int) (Linear, error) {
		l, err := m.source.Linear(prefix + name)
		if err != nil {
			return nil, err
		}
		if gotN, gotK := l.Shape(); gotN != n || gotK != k {
			return nil, shapeFault(prefix+name, []int{gotN, gotK}, []int{n, k})
		}
		return l, nil
	}
	if c.HasExperts(i) {
		if b.router, err = linear(a.Experts.Router, c.Experts, c.Hidden); err != nil {
			return nil, err
		}
		b.experts = make([]expert, c.Experts)
	}
	for _, rule := range c.Linears(i) {
		n, k := c.Shape(rule.Role)
		l, err := linear(rule.Name, n, k)
		if err != nil {
			return nil, err
		}
		*b.place(rule) = l
	}
	return b, nil
}

// vector reads a tensor of n elements.
func (m *Model) vector(name string, n int) ([]float32, error) {
	v, err := m.source.Matrix(name)
	if err != nil {
		return nil, err
	}
	if v.Rows != 1 || v.Cols != n {
		return nil, shapeFault(name, []int{v.Rows, v.Cols}, []int{n})
	}
	return v.Row(0), nil
}

// Embed returns the embeddings (len(window), Hidden) of each window. The matrix
// is read in slices; only the rows of these tokens are kept.
func (m *Model) Embed(windows [][]int32) ([]tensor.Matrix, error) {
	h, err := m.EmbedIn(windows, Buffer{})
	if err != nil {
		return nil, err
	}
	return h.memory, nil
}

// EmbedIn is Embed with bounded memory. The caller closes the result.
func (m *Model) EmbedIn(windows [][]int32, b Buffer) (_ *Hidden, err error) {
	c := m.Config
	rows := make([]int, len(windows))
	type place struct{ window, row int }
	bySlice := make([][]place, (c.Vocab+sliceRows-1)/sliceRows)
	for w, tokens := range windows {
		rows[w] = len(tokens)
		for i, t := range tokens {
			if t < 0 || int(t) >= c.Vocab {
				return nil, &fault.Error{
					Err: ErrInput, Where: fmt.Sprintf("token %d of window %d", i, w),
					Found: fmt.Sprint(t), Wanted: fmt.Sprintf("0 to %d", c.Vocab-1),
					Hint: "does the tokenizer belong to this model?",
				}
			}
			s := int(t) / sliceRows
			bySlice[s] = append(bySlice[s], place{w, i})
		}
	}
	h, err := NewHidden(rows, c.Hidden, b)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = h.Close() // the first error says more
		}
	}()
	name := c.Arch.Embedding + ".weight"
	return h, eachRows(m.source, name, c.Vocab, sliceRows, func(from int, rows tensor.Matrix) error {
		if rows.Cols != c.Hidden {
			return shapeFault(name, []int{c.Vocab, rows.Cols}, []int{c.Vocab, c.Hidden})
		}
		for _, p := range bySlice[from/sliceRows] {
			if err := h.setRow(p.window, p.row, rows.Row(int(windows[p.window][p.row])-from)); err != nil {
				return err
			}
		}
		return nil
	})
}

// FinalNorm applies the norm before the head to each matrix in place.
func (m *Model) FinalNorm(hidden []tensor.Matrix) error {
	w, err := m.vector(m.Config.Arch.FinalNorm+".weight", m.Config.Hidden)
	if err != nil {
		return err
	}
	for _, x := range hidden {
		m.between.RMSNorm(x, x, w, float32(m.Config.NormEps))
	}
	return nil
}
