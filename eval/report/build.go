package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strings"

	"quantize/checkpoint"
	"quantize/eval"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/packer"
	"quantize/recipe"
)

// Input is what a report is made of. Only Reader is required.
type Input struct {
	Reader   *checkpoint.Reader // the quantized checkpoint
	Base     *checkpoint.Reader // what it was made from; nil: not at hand
	Observed *Observed          // nil: no text was run
	Gate     []eval.Verdict     // nil: nothing was judged
}

// Build derives a report. A checkpoint that this program did not quantize is
// [packer.ErrInvalid]; faults of its bytes are in Report.Verify.
func Build(ctx context.Context, in Input) (*Report, error) {
	b := &builder{in: in, dir: in.Reader.Dir()}
	if err := b.open(); err != nil {
		return nil, err
	}
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	return &b.report, nil
}

type builder struct {
	in       Input
	dir      string
	config   *model.Config
	quant    *packer.QuantizationConfig
	manifest *packer.Manifest
	recipe   *recipe.Recipe
	sidecar  *packer.Sidecar
	report   Report
}

func (b *builder) fault(where, found, wanted string) error {
	return &fault.Error{Err: packer.ErrInvalid, Where: b.dir + ": " + where, Found: found, Wanted: wanted, Hint: "quantize verify lists all faults"}
}

// open reads everything but tensors.
func (b *builder) open() error {
	var err error
	b.manifest, err = packer.ReadManifest(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &fault.Error{
			Err: packer.ErrInvalid, Where: b.dir, Found: "no " + packer.ManifestPath,
			Wanted: "a checkpoint that quantize wrote", Hint: "inspect without --html describes any checkpoint",
		}
	}
	if err != nil {
		return err
	}
	if b.config, err = model.ParseConfig(b.in.Reader.ConfigJSON()); err == nil {
		b.quant, err = packer.ParseQuantizationConfig(b.in.Reader.ConfigJSON())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.dir, err)
	}
	if b.recipe, err = recipe.Decode(packer.ManifestPath+" recipe", []byte(b.manifest.Recipe)); err != nil {
		return fmt.Errorf("%s: %w", b.dir, err)
	}
	if b.sidecar, err = packer.ReadSidecar(b.dir); err != nil {
		return err
	}
	b.report.Results, err = ReadResults(b.dir)
	return err
}

func (b *builder) build(ctx context.Context) error {
	m, r := b.manifest, &b.report
	var err error
	if r.Verify, err = packer.VerifyAgainst(ctx, b.dir, b.in.Base); err != nil {
		return err
	}
	r.Name, r.Recipe, r.RecipeText = baseName(b.dir), b.recipe.Name, m.Recipe
	r.Scheme, r.Group, r.Gate, r.Rounding = m.Scheme, m.Group, b.in.Gate, m.Rounding
	if m.Scheme != packer.FP8 {
		r.Grid = m.Grid.String()
	}
	if b.in.Base != nil {
		r.Base = baseName(b.in.Base.Dir())
	}
	b.layers()
	b.sizes()
	if err := b.weights(ctx); err != nil {
		return err
	}
	b.activations()
	b.attention()
	b.origins()
	return nil
}

func baseName(dir string) string { return filepath.Base(filepath.Clean(dir)) }

// layers takes the figures of the manifest.
func (b *builder) layers() {
	var sse, energy float64
	for _, l := range b.manifest.Layers {
		sse, energy = sse+l.SSE, energy+l.Energy
		b.report.Layers = append(b.report.Layers, Layer{
			Layer: l, Block: b.config.LayerOf(l.Name), Projection: l.Name[strings.LastIndexByte(l.Name, '.')+1:],
			SNRdB: decibel(l.SSE, l.Energy), Relative: math.Sqrt(l.SSE / l.Energy),
		})
	}
	b.report.SNR = decibel(sse, energy)
}

// decibel is 10 log10(energy/sse): +Inf where nothing was lost, NaN where there was
// nothing to lose.
func decibel(sse, energy float64) float64 { return 10 * math.Log10(energy/sse) }

// parts of a model, in the order of the bar.
var parts = []string{"attention", "MLP", "embedding", "head", "norms", "other"}

// sizes sums the tensors of both checkpoints by part of the model.
func (b *builder) sizes() {
	after := b.partBytes(b.in.Reader)
	before := map[string]float64{}
	if b.in.Base != nil {
		before = b.partBytes(b.in.Base)
	}
	b.report.Bytes = Change{math.NaN(), 0}
	if b.in.Base != nil {
		b.report.Bytes.Before = 0
	}
	for _, p := range parts {
		s := Size{p, Change{math.NaN(), after[p]}}
		if b.in.Base != nil {
			s.Before = before[p]
			b.report.Bytes.Before += s.Before
		}
		b.report.Bytes.After += s.After
		if s.After > 0 || s.Before > 0 {
			b.report.Sizes = append(b.report.Sizes, s)
		}
	}
}

func (b *builder) partBytes(r *checkpoint.Reader) map[string]float64 {
	of := map[string]string{}
	for _, t := range model.Tensors(b.config) {
		of[t.Module] = part(t)
	}
	sums := map[string]float64{}
	for _, name := range r.Names() {
		info, err := r.Info(name)
		if err != nil {
			continue // Names lists only what Info knows
		}
		module := name[:max(strings.LastIndexByte(name, '.'), 0)]
		p, known := of[module]
		if !known {
			p = "other"
		}
		sums[p] += float64(info.Bytes())
	}
	return sums
}

func part(t model.Expected) string {
	switch t.Kind {
	case model.KindEmbedding:
		return "embedding"
	case model.KindHead:
		return "head"
	case model.KindNorm:
		return "norms"
	case model.KindRouter:
		return "MLP"
	default:
		if in := t.Input(); in == model.AttnIn || in == model.OIn {
			return "attention"
		}
		return "MLP"
	}
}
