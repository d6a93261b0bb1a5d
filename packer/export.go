package packer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

// ExportOptions says what Export writes.
type ExportOptions struct {
	Model   *model.Config
	Scheme  Scheme
	Linears []string // modules to quantize; nil: every linear of the decoder blocks
	// Folded gives the weights to quantize and every other tensor of the model,
	// with transforms applied; nil: they are taken as stored. It must come from
	// the same checkpoint. Tensors that the model does not know are copied.
	Folded *model.Folded
	Int4   Int4Options // for the INT4 schemes; GroupSize 0 is "auto", FP8Activations is set by Export
	// Quantize rounds one weight; nil: QuantizeInt4 with Int4, or QuantizeFP8. It
	// is called in the order of computation, for one weight at a time, with what
	// [Decide] settles. w may be overwritten.
	Quantize func(ctx context.Context, module string, w tensor.Matrix, o Int4Options) (Weight, Layer, error)

	// Tokens counts the calibration tokens that reached the linears of experts, by
	// module; nil: none were run, or Quantize counts them itself.
	Tokens map[string]int64
	// Calibration is for the manifest; nil: no text was read.
	Calibration *Calibration
	Rounding    *Rounding // likewise

	// Journal keeps finished blocks and gives back those of an earlier run of the
	// same inputs, among them Sources, the hashes of all tensors of the source; nil:
	// a run that dies starts over. Restored is told of blocks that Quantize will
	// not see, in their place, with a way to read their weights; it may be nil.
	Journal  *checkpoint.Journal
	Sources  map[string]string
	Restored func(layer int, weights func() (map[string]Weight, error))

	// CacheScales are those of an FP8 cache, by layer, one for all heads: they become
	// k_scale and v_scale, and the configuration gets a kv_cache_scheme. nil: none.
	CacheScales []CacheScale

	Private string            // why no runtime but this program's own may run the result, which makes them refuse it; "": others may
	Files   map[string][]byte // further files of the output, by path
	// Finish makes further files from the output, tensors and configuration, before it is
	// committed; those of the same path take the place of Files. nil: there are none.
	Finish     func(ctx context.Context, written *checkpoint.Reader) (map[string][]byte, error)
	Notes      []string                              // for the user and the manifest, before Export's own
	Recipe     string                                // its text, for the manifest
	Tool       string                                // the program's name and version, for the manifest
	ShardBytes int64                                 // largest shard; 0: the writer's default
	Progress   func(done, total int64, layer *Layer) // weights rounded so far; called in order from one goroutine
}

// Report is what Export did.
type Report struct {
	Scheme   Scheme   // what config.json declares
	Group    int      // group size of the INT4 schemes
	Grid     Grid     // what the codes of the INT4 schemes were chosen against
	Layers   []Layer  // in order of computation
	Ignored  []string // linears that stay as they are
	Notes    []string // for the user: fallbacks, which runtimes load the result
	Restored int      // blocks that were taken from the journal
	BytesIn  int64    // tensor data of the source
	BytesOut int64    // tensor data written
}

// Export quantizes the linears of r and writes a complete checkpoint to out,
// which must not exist or be empty. One linear is in memory at a time, beside
// the one being read and the one being written. On any error, ctx cancelled
// included, out is as it was before.
func Export(ctx context.Context, r *checkpoint.Reader, out string, o ExportOptions) (*Report, error) {
	p, err := planExport(r, &o)
	if err != nil {
		return nil, err
	}
	if err := p.remarkHead(ctx, r, &o); err != nil {
		return nil, err
	}
	w, err := checkpoint.Create(out, p.tensors, checkpoint.WriterOptions{ShardBytes: o.ShardBytes})
	if err != nil {
		return nil, err
	}
	committed := false
	defer func() {
		if !committed {
			_ = w.Abort() // the first error is the one to tell
		}
	}()
	e := &exporter{plan: p, options: &o, reader: r, writer: w, kept: make(chan struct{})}
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	if err := e.files(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := w.Commit(); err != nil {
		return nil, err
	}
	committed = true
	return e.report(), nil
}

type exporter struct {
	plan    *exportPlan
	options *ExportOptions
	reader  *checkpoint.Reader
	writer  *checkpoint.Writer
	sources map[string]string // hashes of the replaced tensors
	layers  []Layer

	restored int           // blocks
	kept     chan struct{} // one for each block that the journal was given
}

// files writes everything that is not a tensor.
func (e *exporter) files(ctx context.Context) error {
	p := e.plan
	hashes := map[string]string{}
	write := func(rel string, data []byte) error {
		hashes[rel] = sha256Hex(data)
		return e.writer.File(rel, data)
	}
	for rel, s := range p.configs() {
		data, err := WithQuantizationConfig(e.reader.ConfigJSON(), e.config(s))
		if err == nil && p.untied {
			data, err = withMember(data, "tie_word_embeddings", []byte("false"))
		}
		if err == nil && p.name != nil {
			data, err = withMember(data, p.name.key, p.name.value)
		}
		if err != nil {
			return err
		}
		if err := write(rel, data); err != nil {
			return err
		}
	}
	if err := e.finish(ctx); err != nil {
		return err
	}
	for _, rel := range slices.Sorted(maps.Keys(e.options.Files)) {
		if err := write(rel, e.options.Files[rel]); err != nil {
			return err
		}
	}
	for _, rel := range e.reader.Files() {
		if _, replaced := e.options.Files[rel]; replaced || rel == configPath || rel == ManifestPath || rel == weightOnlyPath {
			continue
		}
		sum, err := e.writer.CopyFile(e.reader, rel)
		if err != nil {
			return err
		}
		hashes[rel] = sum
	}
	m := &Manifest{
		Version: manifestVersion, Tool: e.options.Tool, Recipe: e.options.Recipe, Scheme: p.scheme, Group: p.group,
		Calibration: e.options.Calibration, Rounding: e.options.Rounding, Layers: e.layers, Files: hashes, Sources: e.sources, Tensors: e.writer.Hashes(),
		Omitted: append([]string{}, p.omitted...), Warnings: append([]string{}, p.notes...),
	}
	m.Grid = p.grid
	for _, name := range p.copies {
		m.Sources[name] = m.Tensors[name]
	}
	if e.options.Folded != nil {
		if err := e.hashSources(m.Sources); err != nil {
			return err
		}
	}
	for name, sum := range m.Sources {
		if err := e.checkSource(name, sum); err != nil {
			return err
		}
	}
	if err := e.reader.Unchanged(); err != nil { // also of what was read again, or by others
		return err
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	return e.writer.File(ManifestPath, data)
}

// finish adds the files that are made from the output.
func (e *exporter) finish(ctx context.Context) error {
	if e.options.Finish == nil {
		return nil
	}
	written, err := e.writer.Written()
	if err != nil {
		return err
	}
	defer func() { _ = written.Close() }() // only read
	files, err := e.options.Finish(ctx, written)
	if err != nil {
		return err
	}
	all := maps.Clone(e.options.Files)
	if all == nil {
		all = map[string][]byte{}
	}
	maps.Copy(all, files)
	e.options.Files = all
	return nil
}

// The configuration files of a checkpoint.
const (
	configPath     = "config.json"
	weightOnlyPath = "w4a16/config.json"
)

// configs says which scheme each configuration file declares.
func (p *exportPlan) configs() map[string]Scheme {
	files := map[string]Scheme{configPath: p.scheme}
	if p.scheme == W4A8 {
		files[weightOnlyPath] = W4A16
	}
	return files
}

// config is the quantization_config that declares scheme s.
func (e *exporter) config(s Scheme) *QuantizationConfig {
	q := s.Config(e.plan.group, e.plan.ignore)
	if e.options.CacheScales != nil {
		q.KVCacheScheme = KVScheme{Format: KVFP8}.CacheScheme()
	}
	for _, g := range q.ConfigGroups {
		g.Weights.Private = e.options.Private
	}
	return q
}

// hashSources adds the hashes of the tensors that were written transformed.
func (e *exporter) hashSources(sums map[string]string) error {
	var raw []byte
	for _, t := range e.plan.folded {
		if !e.reader.Has(t.Name) {
			continue // a head that was tied
		}
		var err error
		if raw, err = e.reader.Raw(t.Name, raw); err != nil {
			return err
		}
		sums[t.Name] = sha256Hex(raw)
	}
	return nil
}

func (e *exporter) report() *Report {
	rep := &Report{Scheme: e.plan.scheme, Group: e.plan.group, Grid: e.plan.grid, Layers: e.layers, Ignored: e.plan.ignore, Notes: e.plan.notes, Restored: e.restored}
	for _, name := range e.reader.Names() {
		if info, err := e.reader.Info(name); err == nil {
			rep.BytesIn += info.Bytes()
		}
	}
	for _, info := range e.plan.tensors {
		rep.BytesOut += info.Bytes()
	}
	return rep
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// round quantizes one weight as the options say.
func (e *exporter) round(ctx context.Context, l LinearShape, w tensor.Matrix) (Weight, Layer, error) {
	o := e.options.Int4
	o.GroupSize, o.Grid, o.FP8Activations = e.plan.group, e.plan.grid, e.plan.scheme == W4A8
	var weight Weight
	var layer Layer
	var err error
	switch {
	case e.options.Quantize != nil:
		weight, layer, err = e.options.Quantize(ctx, l.Name, w, o)
	case e.plan.scheme == FP8:
		var report *FP8Report
		if weight, report, err = QuantizeFP8(w); err == nil {
			layer = report.Layer()
		}
	default:
		var report *Int4Report
		if weight, report, err = QuantizeInt4(w, o); err == nil {
			layer = report.Layer()
		}
	}
	if err != nil {
		return nil, layer, fmt.Errorf("%s: %w", l.Name, err)
	}
	if n, k := weight.Shape(); n != l.N || k != l.K {
		return nil, layer, &fault.Error{Err: ErrInvalid, Where: l.Name, Found: fmt.Sprintf("a rounded weight of %dx%d", n, k), Wanted: fmt.Sprintf("%dx%d", l.N, l.K)}
	}
	layer.Name, layer.N, layer.K = l.Name, l.N, l.K
	if tokens, ok := e.options.Tokens[l.Name]; ok && layer.Tokens == nil {
		layer.reached(tokens)
	}
	return weight, layer, nil
}
