package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quantize/calibrate"
	"quantize/checkpoint"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/packer"
	"quantize/packer/format"
	"quantize/recipe"
)

// convertResult is the result of convert.
type convertResult struct {
	Output   string   `json:"output"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Layers   int      `json:"layers"`   // converted linears
	Verified bool     `json:"verified"` // read again and compared bit for bit
	Notes    []string `json:"notes"`
	BytesIn  int64    `json:"bytes_in"`
	BytesOut int64    `json:"bytes_out"`
	Seconds  float64  `json:"seconds"`
	PeakRSS  int64    `json:"peak_rss_bytes"`
}

type convertOptions struct {
	to, out string
	calib   []string
}

func newConvertCommand(e *env) *cobra.Command {
	var o convertOptions
	c := &cobra.Command{
		Use:   "convert OUT --to FORMAT -o DIR",
		Short: "Store a quantized checkpoint as another runtime reads it",
		Long: `Write the quantized checkpoint OUT in another format to DIR, which must not exist
or be empty. Codes and scales are moved, never rounded: what the format cannot
hold is refused with the reason and nothing is written. What was written is read
again and compared with OUT bit for bit.

  gptq                GPTQ v1 (vLLM, SGLang, transformers with GPTQModel)
  awq                 AWQ GEMM (vLLM, SGLang, transformers with GPTQModel)
  modelopt            W4A8_AWQ, or FP8 per channel (TensorRT-LLM; vLLM reads the latter)
  fp8-block           DeepSeek's FP8 blocks, from FP8 blocks only
  compressed-tensors  back again, from any of them

modelopt's W4A8_AWQ scales activations with constants: --calib gives the text that
they are measured on.`,
		Example: `  quantize convert out --to gptq -o out-gptq
  quantize convert out --to modelopt --calib wiki.txt -o out-trtllm`,
		Args: oneArg("OUT, a quantized checkpoint"),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(format.Targets, o.to) {
				return &usageError{fmt.Errorf("--to: found %q, wanted one of %s", o.to, strings.Join(format.Targets, ", "))}
			}
			res, err := e.convert(c.Context(), args[0], o)
			if errors.Is(err, packer.ErrOption) {
				err = &usageError{err}
			}
			if err != nil {
				return err
			}
			return e.print(res, res.text)
		},
	}
	c.Flags().StringVar(&o.to, "to", "", "format: "+strings.Join(format.Targets, ", ")+" (required)")
	c.Flags().StringVarP(&o.out, "out", "o", "", "output directory (required)")
	c.Flags().StringArrayVar(&o.calib, "calib", nil, "text `FILE` that static activation scales are measured on; may be repeated")
	for _, name := range []string{"to", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic("quantize: convert has no flag " + name)
		}
	}
	return c
}

func (e *env) convert(ctx context.Context, dir string, o convertOptions) (res *convertResult, err error) {
	start := time.Now()
	if err := outside(dir, o.out); err != nil {
		return nil, err
	}
	fo := format.Options{To: o.to, Tool: tool}
	if len(o.calib) > 0 {
		if fo.InputAbsMax, err = e.inputAbsMax(ctx, dir, o.calib); err != nil {
			return nil, err
		}
	}
	lock, err := e.openJournal(o.out)
	if err != nil {
		return nil, err
	}
	defer func() { e.closeJournal(lock, err) }()
	r, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	if err := r.CheckFiles(); err != nil {
		return nil, err
	}
	bar := e.progress("convert")
	fo.Progress = bar.set
	rep, err := format.Convert(ctx, r, o.out, fo)
	bar.end()
	if err != nil {
		return nil, err
	}
	return &convertResult{
		Output: o.out, From: rep.From, To: rep.To, Layers: rep.Layers, Verified: true, Notes: append([]string{}, rep.Notes...),
		BytesIn: rep.BytesIn, BytesOut: rep.BytesOut, Seconds: time.Since(start).Seconds(), PeakRSS: peakRSS(),
	}, nil
}

// inputAbsMax runs text through the quantized model and gives, by linear, the
// largest magnitude of its input.
func (e *env) inputAbsMax(ctx context.Context, dir string, files []string) (func(string) (float32, error), error) {
	l, err := load(dir)
	if err != nil {
		return nil, err
	}
	defer l.close()
	r := &recipe.Recipe{Name: "convert", Calibration: recipe.Calibration{Samples: 64, Window: 512, Seed: 1}}
	windows, err := calibrationWindows(l, job{model: dir, recipe: r, calib: files})
	if err != nil {
		return nil, err
	}
	m, err := l.model(packer.LUT)
	if err != nil {
		return nil, err
	}
	bar := e.progress("calibrate")
	stats, err := calibrate.Collect(ctx, m, windows, calibrate.Options{
		Points: append([]model.Point{model.ExpertIn}, calibrate.LinearInputs...), MatMulT: l.compute.MatMulT,
		OnBlock: func(done, total int) { bar.set(int64(done), int64(total)) },
	})
	bar.end()
	if err != nil {
		return nil, err
	}
	largest := map[string]float32{}
	for _, t := range model.Tensors(l.config) {
		if t.Kind != model.KindLinear {
			continue
		}
		if site := stats.Site(model.Site{Layer: t.Layer, Point: t.Input()}); site != nil {
			largest[t.Module] = slices.Max(site.AbsMax)
		}
	}
	return func(module string) (float32, error) {
		top, ok := largest[module]
		if !ok {
			return 0, &fault.Error{Err: calibrate.ErrInvalid, Where: module, Found: "an expert that no token of the text reached", Wanted: "its largest activation", Hint: "give more text"}
		}
		return top, nil
	}, nil
}

func (r *convertResult) text(w io.Writer) {
	fmt.Fprintf(w, "%s: %s from %s, %d linears, read again and equal bit for bit\n", r.Output, r.To, r.From, r.Layers)
	fmt.Fprintf(w, "  size  %s -> %s\n", size(r.BytesIn), size(r.BytesOut))
	fmt.Fprintf(w, "  took  %.1f s, peak memory %s\n", r.Seconds, size(r.PeakRSS))
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note  %s\n", n)
	}
}
