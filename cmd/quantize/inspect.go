package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"quantize/checkpoint"
	"quantize/eval/report"
	"quantize/packer"
)

// inspection is the result of inspect.
type inspection struct {
	Path         string         `json:"path"`
	Architecture string         `json:"architecture"`
	Layers       int            `json:"layers"`
	Quantization string         `json:"quantization"` // "none", or scheme and format
	Bytes        int64          `json:"bytes"`
	Shards       int            `json:"shards"`
	Tensors      []tensorInfo   `json:"tensors"`
	Outliers     []outlier      `json:"outlier_channels"` // full precision: the channels that stand out most
	Quantized    []packer.Layer `json:"quantized,omitempty"`
	HTML         string         `json:"html,omitempty"` // the report that was written

	Attention *packer.AttentionPlan `json:"attention,omitempty"` // the plan in the sidecar

	Rounding *packer.Rounding `json:"rounding,omitempty"` // what FP8 activations and the cache cost

	Experts []packer.ExpertCoverage `json:"experts,omitempty"` // where calibration text was run
}

type tensorInfo struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`
	File  string `json:"file"`
}

// outlier is an input channel whose largest weight is far above the median
// channel's of its tensor.
type outlier struct {
	Tensor  string  `json:"tensor"`
	Channel int     `json:"channel"`
	Ratio   float64 `json:"ratio"`
}

func newInspectCommand(e *env) *cobra.Command {
	var all bool
	var o reportOptions
	c := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Describe a checkpoint: tensors, outlier channels, what quantization cost",
		Long: `Describe the checkpoint in PATH. Of full precision: the input channels whose
largest weight stands out most from the median of their tensor. Of a quantized
checkpoint: the signal-to-noise ratio of each layer, the layers whose outputs on
the calibration text suffered most, where the recipe was fitted on one, and the
calibration tokens that reached each expert, from its manifest.

With --html also a page with plots of what quantization did: one file, nothing is
loaded from elsewhere. --base adds sizes and outlier channels before, --text the
activations, keys and values of both on a short text; what eval --save kept is
shown too, and judged by --budget: of each text the result that gate would judge,
of this checkpoint alone and not of others kept beside it.`,
		Example: `  quantize inspect SmolLM2-135M
  quantize eval out --base SmolLM2-135M --text wiki.txt --save
  quantize inspect out --base SmolLM2-135M --text wiki.txt --html report.html`,
		Args: oneArg("PATH, a checkpoint directory"),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case o.html == "" && (o.base != "" || o.text != "" || o.budget != ""):
				return &usageError{errors.New("inspect: found --base, --text or --budget alone, wanted --html FILE too")}
			case o.text != "" && o.base == "":
				return &usageError{errors.New("inspect: found --text without --base, wanted the checkpoint to compare with")}
			}
			if err := apart([]namedFile{{"--html", o.html}}, []namedFile{{"--text", o.text}, {"--budget", o.budget}}); err != nil {
				return err
			}
			if err := writable(o.html); err != nil {
				return err
			}
			res, err := inspect(c.Context(), args[0])
			if err != nil {
				return err
			}
			if o.html != "" {
				if err := e.writeReport(c.Context(), args[0], o); err != nil {
					return err
				}
				res.HTML = o.html
			}
			return e.print(res, func(w io.Writer) { res.text(w, all) })
		},
	}
	c.Flags().BoolVar(&all, "tensors", false, "list every tensor")
	c.Flags().StringVar(&o.html, "html", "", "write a report on a quantized checkpoint to this file")
	c.Flags().StringVar(&o.base, "base", "", "the checkpoint that PATH was made from, for the report")
	c.Flags().StringVar(&o.text, "text", "", "UTF-8 text to compare activations on, for the report")
	c.Flags().StringVar(&o.budget, "budget", "", "YAML file of budgets for the report, as gate reads it")
	return c
}

func inspect(ctx context.Context, path string) (*inspection, error) {
	l, err := load(path)
	if err != nil {
		return nil, err
	}
	defer l.close()
	res := &inspection{
		Path: path, Architecture: l.config.Arch.Name, Layers: l.config.Layers, Quantization: "none",
		Bytes: l.tensorBytes(), Shards: len(l.reader.Shards()), Outliers: []outlier{},
	}
	for _, name := range l.reader.Names() {
		info, err := l.reader.Info(name)
		if err != nil {
			return nil, err
		}
		res.Tensors = append(res.Tensors, tensorInfo{name, info.DType.String(), info.Shape, info.Bytes(), l.reader.File(name)})
	}
	if l.quant != nil {
		res.Quantization = string(l.quant.Format)
		return res, res.addManifest()
	}
	res.Outliers, err = outliers(ctx, l.reader, l.linears())
	return res, err
}

// addManifest takes what quantize wrote beside its own exports; those of other
// tools have none.
func (r *inspection) addManifest() error {
	m, err := packer.ReadManifest(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	r.Quantization, r.Quantized = fmt.Sprintf("%s (%s)", m.Scheme, r.Quantization), m.Layers
	r.Experts, r.Rounding = packer.Coverage(m.Layers), m.Rounding
	r.Attention, err = writtenPlan(r.Path)
	return err
}

// outlierCount is how many channels are shown at most.
const outlierCount = 20

func outliers(ctx context.Context, r *checkpoint.Reader, linears []string) ([]outlier, error) {
	found := []outlier{}
	for _, module := range linears {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := module + ".weight"
		w, err := r.Matrix(name)
		if err != nil {
			return nil, err
		}
		for j, ratio := range report.Ratios(report.Magnitudes(w)) {
			if ratio > report.OutlierRatio {
				found = append(found, outlier{name, j, math.Round(100*ratio) / 100})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b outlier) int { return cmp.Compare(b.Ratio, a.Ratio) })
	return found[:min(outlierCount, len(found))], nil
}

func (r *inspection) text(w io.Writer, all bool) {
	fmt.Fprintf(w, "%s: %s, %d layers, %d tensors in %d files, %s, quantization %s\n",
		r.Path, r.Architecture, r.Layers, len(r.Tensors), r.Shards, size(r.Bytes), r.Quantization)
	if all {
		for _, t := range r.Tensors {
			fmt.Fprintf(w, "  %-60s %-8s %-16s %10s  %s\n", t.Name, t.DType, strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ", "), size(t.Bytes), t.File)
		}
	}
	for _, l := range r.Quantized {
		snr := "exact"
		if l.SNR != nil {
			snr = fmt.Sprintf("%.2f dB", *l.SNR)
		}
		fmt.Fprintf(w, "  %-48s %6d x %-6d  SNR %s\n", l.Name, l.N, l.K, snr)
	}
	writeWorstOutputs(w, r.Quantized)
	writeRounding(w, r.Rounding)
	if r.Attention != nil {
		fmt.Fprintf(w, "attention plan: %v\n", r.Attention)
		for layer, l := range r.Attention.Layers {
			fmt.Fprintf(w, "  %s\n", plannedLayer(layer, l))
		}
	}
	writeCoverage(w, r.Experts)
	if len(r.Outliers) > 0 {
		fmt.Fprintf(w, "input channels whose largest weight is over %d times the median channel's:\n", report.OutlierRatio)
	}
	for _, o := range r.Outliers {
		fmt.Fprintf(w, "  %-48s channel %-6d %.1fx\n", o.Tensor, o.Channel, o.Ratio)
	}
	if r.HTML != "" {
		fmt.Fprintf(w, "report: %s\n", r.HTML)
	}
}
