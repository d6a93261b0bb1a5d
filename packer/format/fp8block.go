package format

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"quantize/internal/fault"
	"quantize/packer"
	"quantize/tensor"
)

// block is the edge of the squares that share a scale.
const block = 128

// FP8BlockWeight is an E4M3 weight with one FP32 scale for each square of 128
// rows and 128 columns; the last of a row or column may be smaller. Activations
// are rounded to E4M3 in groups of 128 of a token (DeepSeek-V3, arXiv 2412.19437,
// section 3.3; docs/formats.md 4.2).
type FP8BlockWeight struct {
	N, K   int
	Codes  []uint8   // (N, K)
	Scales []float32 // (⌈N/128⌉, ⌈K/128⌉)
}

// Shape returns N and K.
func (w *FP8BlockWeight) Shape() (n, k int) { return w.N, w.K }

// ActivationBits is 8.
func (w *FP8BlockWeight) ActivationBits() int { return 8 }

// Decode writes code·scale into dst (N, K).
func (w *FP8BlockWeight) Decode(dst tensor.Matrix, _ packer.Arithmetic) {
	if dst.Rows != w.N || dst.Cols != w.K {
		panic("format: destination of Decode has another shape")
	}
	for n := range w.N {
		row, scales := dst.Row(n), w.Scales[n/block*blocks(w.K):][:blocks(w.K)]
		for k, c := range w.Codes[n*w.K:][:w.K] {
			row[k] = tensor.E4M3Value(c) * scales[k/block]
		}
	}
}

func blocks(n int) int { return (n + block - 1) / block }

// QuantizeFP8Block rounds w (N, K) to E4M3 with the scale amax/448 of each
// square; a square of zeros, or one whose scale would be subnormal, gets the
// smallest normal one. Weights that are not finite are [packer.ErrInvalid].
func QuantizeFP8Block(w tensor.Matrix) (*FP8BlockWeight, *packer.FP8Report, error) {
	out := &FP8BlockWeight{N: w.Rows, K: w.Cols, Codes: make([]uint8, w.Rows*w.Cols), Scales: make([]float32, blocks(w.Rows)*blocks(w.Cols))}
	across := blocks(w.Cols)
	reports := make([]packer.FP8Report, len(out.Scales))
	faults := make([]error, len(out.Scales))
	shared(blocks(w.Rows), 1, func(from, to int) {
		for i := from * across; i < to*across; i++ {
			faults[i] = out.encode(w, i, &reports[i])
		}
	})
	report := &packer.FP8Report{Rows: w.Rows}
	for i, r := range reports {
		if faults[i] != nil {
			return nil, nil, faults[i]
		}
		report.SSE, report.Energy = report.SSE+r.SSE, report.Energy+r.Energy
	}
	return out, report, nil
}

// encode rounds square i.
func (w *FP8BlockWeight) encode(src tensor.Matrix, i int, r *packer.FP8Report) error {
	n, k := i/blocks(w.K)*block, i%blocks(w.K)*block
	rows, cols := min(block, w.N-n), min(block, w.K-k)
	var amax float32
	for y := n; y < n+rows; y++ {
		for x, v := range src.Row(y)[k:][:cols] {
			if !(v > -largestWeight && v < largestWeight) {
				return &fault.Error{Err: packer.ErrInvalid, Where: fmt.Sprintf("weight[%d, %d]", y, k+x), Found: fmt.Sprint(v), Wanted: "a finite number below 2^100"}
			}
			amax = max(amax, float32(math.Abs(float64(v))))
		}
	}
	scale := max(amax/448, 0x1p-126)
	w.Scales[i] = scale
	for y := n; y < n+rows; y++ {
		codes := w.Codes[y*w.K+k:][:cols]
		for x, v := range src.Row(y)[k:][:cols] {
			codes[x] = tensor.E4M3(v / scale)
			d := float64(v) - float64(tensor.E4M3Value(codes[x])*scale)
			r.SSE += float64(d * d)
			r.Energy += float64(float64(v) * float64(v))
		}
	}
	return nil
}

// largestWeight keeps squared errors away from overflow.
const largestWeight = 0x1p100

// FP8Block is quant_method "fp8" with weight_block_size, as DeepSeek-V3 has it.
//
//	weight           F8_E4M3 (N, K)
//	weight_scale_inv F32 (⌈N/128⌉, ⌈K/128⌉)   value = weight · weight_scale_inv, despite the name
type FP8Block struct{}

// Name is "fp8-block".
func (FP8Block) Name() string { return "fp8-block" }

// Fields lists weight and weight_scale_inv.
func (FP8Block) Fields(n, k int) []Field {
	return fp8Fields(n, k, ".weight_scale_inv", blocks(n), blocks(k))
}

// Pack takes an [FP8BlockWeight].
func (f FP8Block) Pack(weight packer.Weight) ([]Part, error) {
	w, ok := weight.(*FP8BlockWeight)
	if !ok {
		return nil, otherKind(f, weight, "FP8 in blocks of 128 x 128")
	}
	return packFP8(w.Codes, w.Scales)
}

// Unpack gives an [FP8BlockWeight].
func (FP8Block) Unpack(n, k int, parts []Part) (packer.Weight, error) {
	codes, scales, err := unpackFP8(parts, blocks(n)*blocks(k))
	if err != nil {
		return nil, err
	}
	return &FP8BlockWeight{N: n, K: k, Codes: codes, Scales: scales}, nil
}

type fp8BlockConfig struct {
	Activations string   `json:"activation_scheme"`
	Number      string   `json:"fmt"`
	Skipped     []string `json:"modules_to_not_convert"`
	Method      string   `json:"quant_method"`
	Block       []int    `json:"weight_block_size"`
}

// Files puts quantization_config into config.json.
func (FP8Block) Files(source []byte, d Description) (map[string][]byte, error) {
	return configFiles(source, fp8BlockConfig{"dynamic", "e4m3", d.withHead(), "fp8", []int{block, block}}, "", nil)
}

func parseFP8Block(raw json.RawMessage) (Format, error) {
	var c fp8BlockConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, invalid("quantization_config", err.Error(), "an fp8 configuration")
	}
	if !slices.Equal(c.Block, []int{block, block}) || c.Activations != "dynamic" {
		return nil, refuse("quantization_config", fmt.Sprintf("weight_block_size %v, activation_scheme %q", c.Block, c.Activations), "blocks of [128 128] and dynamic activations", "")
	}
	return FP8Block{}, nil
}
