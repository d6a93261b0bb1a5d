package format

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/packer"
	"quantize/tensor"
)

// Options says what Convert writes.
type Options struct {
	To   string // one of Targets
	Tool string // name and version of this program, for the manifest
	// InputAbsMax gives the largest magnitude of what a linear is fed, for formats
	// with static activation scales; nil: they are refused.
	InputAbsMax func(module string) (float32, error)
	ShardBytes  int64                   // largest shard; 0: the writer's default
	Progress    func(done, total int64) // weights converted so far
}

// Report is what Convert did.
type Report struct {
	From, To string
	Layers   int      // converted linears
	Notes    []string // for the user: what the target does otherwise
	BytesIn  int64    // tensor data of the source
	BytesOut int64
}

// Convert writes the checkpoint of r in another format to out, which must not
// exist or be empty. Codes and scales are moved, never rounded: a linear that the
// target cannot hold is ErrRepresent, all of them are told, and nothing is
// written. Afterwards everything is read again from the files and compared with
// the source bit for bit; out is removed if anything differs.
func Convert(ctx context.Context, r *checkpoint.Reader, out string, o Options) (*Report, error) {
	src, err := Open(r)
	if err != nil {
		return nil, err
	}
	f, err := target(o.To, src.Format)
	if err != nil {
		return nil, err
	}
	c := &converter{Source: src, to: f, options: o}
	if err := c.plan(); err != nil {
		return nil, err
	}
	if c.writer, err = checkpoint.Create(out, c.tensors, checkpoint.WriterOptions{ShardBytes: o.ShardBytes}); err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, errors.Join(err, c.writer.Abort())
	}
	if err := c.verify(ctx, out); err != nil {
		return nil, errors.Join(fmt.Errorf("converted checkpoint removed: %w", err), os.RemoveAll(out))
	}
	return c.report(), nil
}

type converter struct {
	*Source
	to      Format
	options Options
	writer  *checkpoint.Writer

	copies  []string           // tensors that stay
	tensors []checkpoint.Info  // of the output
	kv      []cacheScale       // scales of an FP8 cache, renamed
	scales  map[string]float32 // of merged layers: the largest group scale
	notes   []string
}

// run writes everything and makes the output appear.
func (c *converter) run(ctx context.Context) error {
	if err := c.weights(ctx); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, name := range c.fullPrecision() {
		known[name] = true
	}
	for _, name := range c.copies {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		copyTensor := c.writer.Copy
		if known[name] {
			copyTensor = c.writer.CopyFinite
		}
		if err := copyTensor(c.Reader, name); err != nil {
			return err
		}
	}
	for _, s := range c.kv {
		if err := c.writer.Add(s.to, floats([]float32{s.value})); err != nil {
			return err
		}
	}
	if err := c.files(); err != nil {
		return err
	}
	return c.writer.Commit()
}

// weights converts the linears one at a time. After a refusal the others are only
// looked at, so that all refusals are told.
func (c *converter) weights(ctx context.Context) error {
	var done, total int64
	for _, l := range c.Quantized {
		total += int64(l.N) * int64(l.K)
	}
	var refused []error
	for _, l := range c.Quantized {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		parts, err := c.convert(l)
		switch {
		case errors.Is(err, ErrRepresent):
			refused = append(refused, fmt.Errorf("%s: %w", l.Name, err))
		case err != nil:
			return fmt.Errorf("%s: %w", l.Name, err)
		case len(refused) == 0:
			for i, field := range c.to.Fields(l.N, l.K) {
				if parts[i].absent() {
					continue
				}
				if err := c.writer.Add(l.Name+field.Suffix, parts[i].Data); err != nil {
					return err
				}
			}
		}
		done += int64(l.N) * int64(l.K)
		if c.options.Progress != nil {
			c.options.Progress(done, total)
		}
	}
	return errors.Join(refused...)
}

func (c *converter) convert(l packer.LinearShape) ([]Part, error) {
	w, err := c.Read(l)
	if err != nil {
		return nil, err
	}
	if w, err = c.prepare(l, w); err != nil {
		return nil, err
	}
	return c.to.Pack(w)
}

// prepare adds what the target stores beside codes and scales.
func (c *converter) prepare(l packer.LinearShape, w packer.Weight) (packer.Weight, error) {
	if c.to != (W4A8AWQ{}) {
		return w, nil
	}
	int4, ok := w.(*packer.Int4Weight)
	if !ok {
		return nil, otherKind(c.to, w, "a compressed-tensors W4A8_FP8 checkpoint")
	}
	amax, err := c.options.InputAbsMax(l.Name)
	if err != nil {
		return nil, err
	}
	layer, fused := packer.FusedName(l.Name)
	return Static(int4, c.scales[layer], amax, !fused, c.modelDType())
}

// modelDType is the type of what is not quantized.
func (c *converter) modelDType() tensor.DType {
	if d := c.Model.DType; d != tensor.Unset {
		return d
	}
	return tensor.BF16
}

// files writes everything that is not a tensor.
func (c *converter) files() error {
	files, err := c.to.Files(c.ConfigJSON(), Description{Ignored: c.Ignored, Routers: packer.Routers(c.Model), Head: c.Model.Arch.Head, FP8KV: len(c.kv) > 0, Tool: c.options.Tool})
	if err != nil {
		return err
	}
	hashes := map[string]string{}
	for _, rel := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[rel])
		hashes[rel] = hex.EncodeToString(sum[:])
		if err := c.writer.File(rel, files[rel]); err != nil {
			return err
		}
	}
	for _, rel := range c.Files() {
		sum, err := c.writer.CopyFile(c.Reader, rel)
		if err != nil {
			return err
		}
		hashes[rel] = sum
	}
	manifest, err := c.Manifest.Converted(scheme(c.to), hashes, c.writer.Hashes(), c.notes, c.options.Tool)
	if err != nil {
		return err
	}
	return c.writer.File(packer.ManifestPath, manifest)
}

func (c *converter) report() *Report {
	rep := &Report{From: c.Format.Name(), To: c.to.Name(), Layers: len(c.Quantized), Notes: c.notes}
	for _, name := range c.Names() {
		if info, err := c.Info(name); err == nil {
			rep.BytesIn += info.Bytes()
		}
	}
	for _, info := range c.tensors {
		rep.BytesOut += info.Bytes()
	}
	return rep
}

// needsActivations refuses a static format without activation statistics.
func (c *converter) needsActivations() error {
	if c.to == (W4A8AWQ{}) && c.options.InputAbsMax == nil {
		return &fault.Error{
			Err: ErrRepresent, Where: "modelopt W4A8_AWQ input_scale", Found: "activations that are scaled at run time",
			Wanted: "the largest activation of each layer", Hint: "give calibration text: --calib FILE",
		}
	}
	return nil
}
