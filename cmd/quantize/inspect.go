package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"quantize/checkpoint"
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
	c := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Describe a checkpoint: tensors, outlier channels, what quantization cost",
		Long: `Describe the checkpoint in PATH. Of full precision: the input channels whose
largest weight stands out most from the median of their tensor. Of a quantized
checkpoint: the signal-to-noise ratio of each layer, and the calibration tokens
that reached each expert, from its manifest.`,
		Args: oneArg("PATH, a checkpoint directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			res, err := inspect(args[0])
			if err != nil {
				return err
			}
			return e.print(res, func(w io.Writer) { res.text(w, all) })
		},
	}
	c.Flags().BoolVar(&all, "tensors", false, "list every tensor")
	return c
}

func inspect(path string) (*inspection, error) {
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
	res.Outliers, err = outliers(l.reader, l.linears())
	return res, err
}

// addManifest takes what quantize wrote beside its own exports; those of other
// tools have none.
func (r *inspection) addManifest() error {
	data, err := os.ReadFile(filepath.Join(r.Path, packer.ManifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := packer.ParseManifest(data)
	if err != nil {
		return err
	}
	r.Quantization, r.Quantized = fmt.Sprintf("%s (%s)", m.Scheme, r.Quantization), m.Layers
	r.Experts = packer.Coverage(m.Layers)
	return nil
}

// The channels shown: those above outlierRatio, at most outlierCount.
const (
	outlierRatio = 4
	outlierCount = 20
)

func outliers(r *checkpoint.Reader, linears []string) ([]outlier, error) {
	found := []outlier{}
	for _, module := range linears {
		name := module + ".weight"
		w, err := r.Matrix(name)
		if err != nil {
			return nil, err
		}
		peak := make([]float64, w.Cols)
		for i := range w.Rows {
			for j, v := range w.Row(i) {
				peak[j] = max(peak[j], math.Abs(float64(v)))
			}
		}
		sorted := slices.Sorted(slices.Values(peak))
		median := sorted[len(sorted)/2]
		for j, v := range peak {
			if median > 0 && v > outlierRatio*median {
				found = append(found, outlier{name, j, math.Round(100*v/median) / 100})
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
	writeCoverage(w, r.Experts)
	if len(r.Outliers) > 0 {
		fmt.Fprintf(w, "input channels whose largest weight is over %d times the median channel's:\n", outlierRatio)
	}
	for _, o := range r.Outliers {
		fmt.Fprintf(w, "  %-48s channel %-6d %.1fx\n", o.Tensor, o.Channel, o.Ratio)
	}
}
