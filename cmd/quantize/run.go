package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"quantize/packer"
	"quantize/recipe"
)

type runOptions struct {
	recipeFlags
	out   string
	calib []string
	fresh bool
}

func newRunCommand(e *env) *cobra.Command {
	var o runOptions
	var resume bool
	c := &cobra.Command{
		Use:   "run MODEL -o OUT",
		Short: "Quantize a checkpoint",
		Long: `Quantize the Hugging Face checkpoint in the directory MODEL as a recipe says and
write a complete checkpoint to OUT, which must not exist or be empty. OUT appears
whole or not at all; MODEL is only read.

A run that ends too early, even by a crash of the machine, keeps its finished
blocks in .OUT.quantize beside OUT, and the same command goes on from there. What
was made of another source, recipe, calibration text or program is refused, and
discarded with --fresh (docs/resume.md).`,
		Example: `  quantize run SmolLM2-135M -o out
  quantize run Qwen2.5-0.5B -o out --recipe fp8
  quantize run Llama-3-8B -o out --recipe best --kv int4 --calib wiki.txt`,
		Args: oneArg("MODEL, a checkpoint directory"),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("fresh") && c.Flags().Changed("resume") && o.fresh == resume {
				return usageFault(c, nil, fmt.Sprintf("--fresh=%v and --resume=%v", o.fresh, resume), "one of them: each is the other's opposite")
			}
			o.fresh = o.fresh || !resume
			r, memory, err := o.load()
			if err != nil {
				return err
			}
			if len(o.calib) > 0 && !r.Calibrated() {
				fmt.Fprintf(e.err, "note: recipe %s reads no calibration text; --calib is not used\n", r.Name)
			}
			res, err := e.quantize(c.Context(), job{model: args[0], out: o.out, recipe: r, calib: o.calib, fresh: o.fresh, memory: memory})
			if err != nil {
				return err
			}
			return e.print(res, res.text)
		},
	}
	c.Flags().StringVarP(&o.out, "out", "o", "", "output directory (required)")
	o.addTo(c)
	c.Flags().StringArrayVar(&o.calib, "calib", nil, "`FILE` of calibration text (UTF-8, with or without a byte order mark), or .jsonl with a \"text\" field; may be repeated")
	c.Flags().BoolVar(&o.fresh, "fresh", false, "start over: discard what an earlier run of this output has finished")
	c.Flags().BoolVar(&resume, "resume", true, "go on from what an earlier run has finished; --resume=false is --fresh")
	if err := c.MarkFlagRequired("out"); err != nil {
		panic("quantize: run has no flag out")
	}
	return c
}

// shownFallbacks is how many of them the summary names.
const shownFallbacks = 12

// worstLayers is how many layers the summary names.
const worstLayers = 5

// newRunResult describes what Export did; transforms are the notes that it was given.
func newRunResult(j job, r *packer.Report, transforms []string) *runResult {
	res := &runResult{
		Output: j.out, Recipe: j.recipe.Name, Scheme: r.Scheme.String(), GroupSize: r.Group, Grid: gridName(r), Layers: len(r.Layers),
		Fallbacks: []fallback{}, Ignored: r.Ignored, Worst: []layerSNR{}, BytesIn: r.BytesIn, BytesOut: r.BytesOut,
		Transforms: append([]string{}, transforms...), Resumed: r.Restored,
	}
	res.Runtimes = slices.DeleteFunc(slices.Clone(r.Notes), func(n string) bool { return slices.Contains(transforms, n) })
	if asked := j.recipe.Scheme; asked == recipe.W4A8FP8 && r.Scheme != packer.W4A8 {
		res.Fallbacks = append(res.Fallbacks, fallback{"config.json", fmt.Sprintf("W4A16 in place of W4A8: group size %d, codes on the grid %s", r.Group, r.Grid)})
	}
	res.Experts, res.Outputs = packer.Coverage(r.Layers), packer.Outputs(r.Layers)
	var sse, energy float64
	for _, l := range r.Layers {
		sse, energy, res.FloorRows = sse+l.SSE, energy+l.Energy, res.FloorRows+l.FloorRows
		if l.Fallback != "" {
			res.Fallbacks = append(res.Fallbacks, fallback{l.Name, l.Fallback})
		}
		if l.SNR != nil {
			res.Worst = append(res.Worst, layerSNR{l.Name, *l.SNR})
		}
	}
	if sse > 0 && energy > 0 {
		res.SNR = math.Round(1000*10*math.Log10(energy/sse)) / 1000
	}
	slices.SortStableFunc(res.Worst, func(a, b layerSNR) int { return cmp.Compare(a.SNR, b.SNR) })
	res.Worst = res.Worst[:min(worstLayers, len(res.Worst))]
	return res
}

// gridName is that of the codes, "" without any.
func gridName(r *packer.Report) string {
	if r.Group == 0 {
		return ""
	}
	return r.Grid.String()
}

// text prints the summary.
func (r *runResult) text(w io.Writer) {
	group := ""
	if r.GroupSize > 0 {
		group = fmt.Sprintf(", group size %d, grid %s", r.GroupSize, r.Grid)
	}
	fmt.Fprintf(w, "%s: %s%s by recipe %s, %d linears, weight SNR %.2f dB\n", r.Output, r.Scheme, group, r.Recipe, r.Layers, r.SNR)
	fmt.Fprintf(w, "  size      %s -> %s (%.2fx smaller)\n", size(r.BytesIn), size(r.BytesOut), float64(r.BytesIn)/float64(r.BytesOut))
	fmt.Fprintf(w, "  took      %.1f s, peak memory %s\n", r.Seconds, size(r.PeakRSS))
	if r.Resumed > 0 {
		fmt.Fprintf(w, "  resumed   %d blocks were finished by an earlier run\n", r.Resumed)
	}
	for i, s := range r.Transforms {
		fmt.Fprintf(w, "  %-9s %s\n", map[bool]string{true: "rotation"}[i == 0], s)
	}
	for i, s := range r.Runtimes {
		fmt.Fprintf(w, "  %-9s %s\n", map[bool]string{true: "loads in"}[i == 0], s)
	}
	for i, l := range r.Worst {
		fmt.Fprintf(w, "  %-9s %s %.2f dB\n", map[bool]string{true: "worst"}[i == 0], l.Name, l.SNR)
	}
	if r.Attention != nil {
		fmt.Fprintf(w, "  attention %s; others than this program's kernels do not read the plan\n", r.Attention)
	}
	writeCoverage(w, r.Experts)
	for _, f := range r.Fallbacks[:min(shownFallbacks, len(r.Fallbacks))] {
		fmt.Fprintf(w, "  fallback  %s: %s\n", f.Name, f.Reason)
	}
	if n := len(r.Fallbacks) - shownFallbacks; n > 0 {
		fmt.Fprintf(w, "  fallback  and %d more (--output json, %s)\n", n, packer.ManifestPath)
	}
	if r.FloorRows > 0 {
		fmt.Fprintf(w, "  floor     %d rows have scales below 1/512 and lose FP8 range\n", r.FloorRows)
	}
}
