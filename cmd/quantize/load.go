package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/kernels"
	"quantize/kernels/cpu"
	"quantize/model"
	"quantize/packer"
	"quantize/smoothing"
)

// loaded is an open checkpoint of a known architecture.
type loaded struct {
	reader  *checkpoint.Reader
	config  *model.Config
	quant   *packer.QuantizationConfig // nil for full precision
	compute *cpu.Compute
	card    card // of quantized products and planned attention; nil: the CPU
	// exactAttention leaves the sidecar's attention plan aside.
	exactAttention bool
	attention      string // of the model that was made last: its plan, "off" where that is left aside

	// What a run adds: where its passes keep what is done, and how much memory the
	// hidden states of the calibration text take.
	journal *checkpoint.Journal
	sums    map[string]string // of all tensors
	buffer  model.Buffer
}

// load opens the checkpoint in dir.
func load(dir string) (*loaded, error) {
	isa, err := cpu.FromEnv()
	if err != nil {
		return nil, err
	}
	r, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	l, err := opened(r, cpu.NewISA(isa, 0))
	if err != nil {
		_ = r.Close() // the first error is the one to tell
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return l, nil
}

// opened is load for a reader that there is.
func opened(r *checkpoint.Reader, c *cpu.Compute) (*loaded, error) {
	l := &loaded{reader: r, compute: c}
	var err error
	if l.config, err = model.ParseConfig(r.ConfigJSON()); err == nil {
		l.quant, err = packer.ParseQuantizationConfig(r.ConfigJSON())
	}
	return l, err
}

// check tells before the work what would end it: an export that cannot be, a file beside the
// weights that cannot be copied.
func (l *loaded) check(o packer.ExportOptions) (*packer.Preview, error) {
	preview, err := packer.PreviewExport(l.reader, o)
	if err != nil {
		return nil, err
	}
	return preview, l.reader.CheckFiles()
}

// forward is what a forward pass needs of a device.
type forward interface {
	kernels.Backend
	kernels.PlanCompute
}

// backend is what forward passes are made with.
func (l *loaded) backend() forward {
	if l.card == nil {
		return l.compute
	}
	return accelerated{l.compute, l.card}
}

// model is the checkpoint under an arithmetic; full precision has one only.
func (l *loaded) model(a packer.Arithmetic) (*model.Model, error) {
	src, err := kernels.Source(l.reader, l.backend(), a)
	if err != nil {
		return nil, err
	}
	m, err := model.New(l.config, src, l.backend())
	if err != nil {
		return nil, err
	}
	sidecar, err := packer.ReadRuntime(l.reader, l.config, l.quant)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.reader.Dir(), err)
	}
	run, err := l.runtime(sidecar)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.reader.Dir(), err)
	}
	if l.attention = planOf(sidecar); l.exactAttention && l.attention != "" {
		l.attention, run.Attend = "off", nil
	}
	return m.WithRuntime(run), nil
}

// runtime is the work between the linears, attention included, that a sidecar asks for; nil: none.
func (l *loaded) runtime(sidecar *packer.Sidecar) (model.Runtime, error) {
	var run model.Runtime
	if sidecar == nil {
		return run, nil
	}
	var err error
	if run.Cache, err = kernels.NewCache(sidecar.KV, sidecar, l.config); err != nil {
		return run, err
	}
	if run.Attend, err = kernels.NewAttend(sidecar.Plan, l.config, l.backend()); err != nil {
		return run, err
	}
	if sidecar.Down == packer.DownHadamard {
		n, err := smoothing.DownOrder(l.config)
		if err != nil {
			return run, err
		}
		h, err := hadamardOf(n)
		if err != nil {
			return run, err
		}
		run.DownIn = l.compute.Hadamard(h)
	}
	return run, nil
}

// fold applies transforms to the weights of the checkpoint.
func (l *loaded) fold(transforms []model.Transform) (*model.Folded, error) {
	return model.Fold(l.config, model.FromCheckpoint(l.reader, l.compute), l.compute, transforms...)
}

// unchanged is that of the reader, whose error names a file without its directory.
func (l *loaded) unchanged() error {
	err := l.reader.Unchanged()
	var changed *fault.Error
	if errors.As(err, &changed) {
		changed.Where = filepath.Join(l.reader.Dir(), changed.Where)
	}
	return err
}

// close ends the reading; nothing was written, so its error says nothing.
func (l *loaded) close() { _ = l.reader.Close() }

// tensorBytes is the size of all tensor data.
func (l *loaded) tensorBytes() int64 {
	var n int64
	for _, name := range l.reader.Names() {
		if info, err := l.reader.Info(name); err == nil {
			n += info.Bytes()
		}
	}
	return n
}

// scheme says what config.json declares: bf16 (full precision), w4a8, w4a16 or fp8.
func (l *loaded) scheme() string {
	if l.quant == nil {
		return "bf16"
	}
	for _, name := range l.linears() {
		s, err := l.quant.Scheme(name)
		if err != nil || s == nil {
			continue
		}
		switch {
		case s.Weights.NumBits == 8:
			return "fp8"
		case s.InputActivations != nil:
			return "w4a8"
		default:
			return "w4a16"
		}
	}
	return "bf16"
}

// linears names the linears of the decoder blocks.
func (l *loaded) linears() []string {
	var names []string
	for _, t := range model.Tensors(l.config) {
		if t.Kind == model.KindLinear {
			names = append(names, t.Module)
		}
	}
	return names
}

// headID is a hash of the output projection: models whose heads are equal, as
// those of a checkpoint and its export are, share one in memory.
func (l *loaded) headID(ctx context.Context) (string, error) {
	name := l.config.Arch.Head + ".weight"
	if l.config.TieEmbeddings {
		name = l.config.Arch.Embedding + ".weight"
	}
	info, err := l.reader.Info(name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if err := l.reader.Copy(ctx, sum, name); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %v %x", info.DType, info.Shape, sum.Sum(nil)), nil
}
