package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"quantize/model"
	"quantize/packer"
	"quantize/packer/format"
	"quantize/recipe"
)

// planResult is the result of plan; the keys are those of docs/architecture.md.
type planResult struct {
	Model     string           `json:"model"`
	Recipe    string           `json:"recipe"`
	Scheme    string           `json:"scheme"`
	GroupSize int              `json:"group_size,omitempty"`
	Layers    int              `json:"layers"` // linears that are, or would be, quantized
	Notes     []string         `json:"notes"`
	BytesIn   int64            `json:"bytes_in"`
	BytesOut  int64            `json:"bytes_out"`
	PeakRAM   int64            `json:"peak_ram_bytes"`
	PeakVRAM  int64            `json:"peak_vram_bytes"` // of quantizing: 0, which happens on the CPU
	Disk      int64            `json:"disk_bytes"`      // at most, while it runs: output and journal
	Journal   int64            `json:"journal_bytes"`   // of that, freed in the end
	Seconds   float64          `json:"seconds"`
	Machine   *machine         `json:"machine,omitempty"`
	Runtimes  []packer.Verdict `json:"runtimes"`
}

func newPlanCommand(e *env) *cobra.Command {
	var o recipeFlags
	c := &cobra.Command{
		Use:   "plan MODEL",
		Short: "Say what quantizing takes and which runtimes load the result",
		Long: `Say, from configuration and headers alone, what run would make of MODEL: sizes,
disk, an estimate of memory and time from a short calibration of this machine, and
a table runtime x GPU x tensor-parallel degree: loads or does not load, and why.
Of a checkpoint that is quantized already: the table.`,
		Example: `  quantize plan Llama-3.1-8B
  quantize plan Llama-3.1-8B --recipe best --kv int4
  quantize plan Llama-3.1-8B --recipe fp8 --output json`,
		Args: oneArg("MODEL, a checkpoint directory"),
		RunE: func(c *cobra.Command, args []string) error {
			r, memory, err := o.load()
			if err != nil {
				return err
			}
			res, err := plan(args[0], r, memory)
			if err == nil {
				err = c.Context().Err() // the machine was measured meanwhile
			}
			if err != nil {
				return err
			}
			return e.print(res, res.text)
		},
	}
	o.addTo(c)
	return c
}

// plan is for a run with at most memory bytes of hidden states in memory, 0 for no bound.
func plan(dir string, r *recipe.Recipe, memory int64) (*planResult, error) {
	l, err := load(dir)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if l.quant != nil {
		return planned(dir, l)
	}
	o, err := exportOptions(l.config, r)
	if err != nil {
		return nil, err
	}
	o.CacheScales = expectedCache(l.config, r)
	p, err := packer.PreviewExport(l.reader, o)
	if err != nil {
		return nil, err
	}
	est := &estimate{l.config, r, p, memory}
	o.Int4.GroupSize = max(p.Group, 32)
	m, err := est.measure(l.compute, o.Int4)
	if err != nil {
		return nil, err
	}
	res := &planResult{
		Model: dir, Recipe: r.Name, Scheme: p.Scheme.String(), GroupSize: p.Group, Layers: len(p.Linears), Notes: p.Notes,
		BytesIn: p.BytesIn, BytesOut: p.BytesOut + est.unties(), PeakRAM: est.peakRAM(), Seconds: est.seconds(m), Machine: &m,
		Runtimes: packer.RuntimeTable(l.config, p.Scheme, p.Group, p.Linears),
	}
	res.Journal = est.journal()
	res.Disk = res.BytesOut + res.Journal
	for _, rel := range l.reader.Files() {
		if st, err := os.Stat(filepath.Join(dir, filepath.FromSlash(rel))); err == nil {
			res.Disk += st.Size()
		}
	}
	return res, nil
}

// expectedCache stands for the scales of an FP8 cache that run will measure and write beside
// the weights; nil where there is none.
func expectedCache(c *model.Config, r *recipe.Recipe) []packer.CacheScale {
	if r.KV.Format != recipe.KVFP8 {
		return nil
	}
	return slices.Repeat([]packer.CacheScale{{K: []float32{1}, V: []float32{1}}}, c.Layers)
}

// planned is the table of a checkpoint that is quantized already.
func planned(dir string, l *loaded) (*planResult, error) {
	src, err := format.Open(l.reader)
	if err != nil {
		return nil, err
	}
	f, ok := src.Format.(format.Compressed)
	if !ok || f.Scheme == 0 {
		return nil, fmt.Errorf("%s: no table for %s", dir, src.Format.Name())
	}
	return &planResult{
		Model: dir, Scheme: f.Scheme.String(), GroupSize: f.GroupSize, Layers: len(src.Quantized), Notes: []string{},
		BytesIn: l.tensorBytes(), BytesOut: l.tensorBytes(), Runtimes: packer.RuntimeTable(l.config, f.Scheme, f.GroupSize, src.Quantized),
	}, nil
}

func (r *planResult) text(w io.Writer) {
	group := ""
	if r.GroupSize > 0 {
		group = fmt.Sprintf(", group size %d", r.GroupSize)
	}
	fmt.Fprintf(w, "%s: %s%s, %d linears\n", r.Model, r.Scheme, group, r.Layers)
	if r.Machine != nil {
		fmt.Fprintf(w, "  recipe   %s\n", r.Recipe)
		fmt.Fprintf(w, "  size     %s -> %s (%.2fx smaller), %s of disk while it runs, %s of them for resume\n", size(r.BytesIn), size(r.BytesOut), float64(r.BytesIn)/float64(r.BytesOut), size(r.Disk), size(r.Journal))
		fmt.Fprintf(w, "  memory   about %s\n", size(r.PeakRAM))
		block := ""
		if r.Machine.Forward > 0 {
			block = fmt.Sprintf(", %.0f in a whole block", r.Machine.Forward)
		}
		fmt.Fprintf(w, "  time     about %.0f s on this machine (%d cores, %.0f GFLOP/s%s, rounds %.0f M weights/s)\n", r.Seconds, r.Machine.Cores, r.Machine.GFLOPS, block, r.Machine.Rounding/1e6)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note     %s\n", n)
	}
	fmt.Fprintln(w)
	for _, line := range packer.Degrees(r.Runtimes) {
		fmt.Fprintf(w, "  %s\n", line)
	}
}
