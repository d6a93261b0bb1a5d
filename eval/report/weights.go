package report

import (
	"context"
	"math"
	"slices"

	"quantize/checkpoint"
	"quantize/packer"
	"quantize/tensor"
)

// OutlierRatio is how far above the median channel's the largest weight of a channel
// must be for the channel to count as one that stands out.
const OutlierRatio = 4

// Magnitudes returns max |w| of each input channel of w (N, K).
func Magnitudes(w tensor.Matrix) []float64 {
	top := make([]float64, w.Cols)
	for i := range w.Rows {
		for k, v := range w.Row(i) {
			top[k] = max(top[k], math.Abs(float64(v)))
		}
	}
	return top
}

// Ratios divides magnitudes by their median; nil where that is zero.
func Ratios(magnitudes []float64) []float64 {
	if len(magnitudes) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(magnitudes))
	median := sorted[len(sorted)/2]
	if !(median > 0) {
		return nil
	}
	ratios := make([]float64, len(magnitudes))
	for k, v := range magnitudes {
		ratios[k] = v / median
	}
	return ratios
}

// newPeak finds the channel that stands out most; its ratio is NaN where the median
// is zero.
func newPeak(magnitudes []float64) *Peak {
	p := &Peak{Ratio: math.NaN(), Channel: -1}
	for k, v := range Ratios(magnitudes) {
		if p.Channel < 0 || v > p.Ratio {
			p.Ratio, p.Channel = v, k
		}
		if v > OutlierRatio {
			p.Over++
		}
	}
	return p
}

// weights reads every quantized linear once.
func (b *builder) weights(ctx context.Context) error {
	for i := range b.report.Layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := &b.report.Layers[i]
		w, err := packer.ReadWeight(b.in.Reader, l.Name, b.quant)
		if err != nil {
			return err
		}
		if w == nil {
			return b.fault(l.Name, "a layer that config.json does not quantize", "what the manifest lists")
		}
		b.report.Scales = b.report.Scales.add(w)
		n, k := w.Shape()
		values := tensor.NewMatrix(n, k)
		w.Decode(values, packer.WeightOnly)
		c := Channels{Linear: l.Name, Block: l.Block, Projection: l.Projection, After: newPeak(Magnitudes(values))}
		if base := b.in.Base; base != nil {
			m, err := matrix(base, l.Name+".weight")
			if err != nil {
				return err
			}
			c.Before = newPeak(Magnitudes(m))
		}
		b.report.Channels = append(b.report.Channels, c)
	}
	return nil
}

func matrix(r *checkpoint.Reader, name string) (tensor.Matrix, error) {
	if _, err := r.Info(name); err != nil {
		return tensor.Matrix{}, err
	}
	return r.Matrix(name)
}
