//go:build cuda

package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"quantize/internal/fault"
	"quantize/tensor"
)

// Check is a property of the hardware or of the kernels, verified on the card.
type Check struct {
	Name string
	Run  func(*Session) error
}

// Checks returns all of them, the hardware's first: the kernels rest on those.
func Checks() []Check {
	return []Check{
		{"tensor cores multiply E4M3 exactly, subnormals included", checkByteProducts},
		{"fragments lie where the layout says", checkFragments},
		{"packing on the card gives the bytes of Pack", checkRepack},
		{"rounded activations are those of QuantizeToken", checkQuantize},
		{"RMSNorm and SiLU before rounding", checkFusedQuantize},
		{"products of small integers are exact, every kernel", checkIntegers},
		{"random products against float64", checkRandom},
		{"products with a mean against float64", checkBiased},
		{"the table arithmetic against float64", checkTable},
		{"large products against float64", checkLarge},
		{"fifty launches give the same bits", checkDeterminism},
		{"a graph of dependent launches gives the same bits", checkGraph},
		{"rounded keys and values are those of RoundAttention", checkAttentionCodes},
		{"attention against float64", checkAttention},
		{"fifty launches of attention give the same bits", checkAttentionDeterminism},
		{"attention over an INT4 cache, every layout, fifty launches", checkCachedAttention},
	}
}

// wrong is the error of a check that found something else than it wanted.
func wrong(where, found, wanted string) error {
	return &fault.Error{Err: ErrDevice, Where: where, Found: found, Wanted: wanted}
}

// configs lists every way in which the kernels of the given codes and group size
// can compute a product of k columns.
func (s *Session) configs(codes string, group, k int) []Config {
	suffix := fmt.Sprintf("_%s_g%d", codes, group)
	var all []Config
	for _, cubin := range s.manifest.Cubins {
		for _, kernel := range cubin.Kernels {
			name, ok := strings.CutSuffix(kernel.Name, suffix)
			if !ok || kernel.Threads == 0 {
				continue
			}
			var c Config
			if n, _ := fmt.Sscanf(name, "decode_m%d_w%dx%d", &c.Tokens, &c.Wide, &c.Deep); n == 3 {
				for c.Split = 1; c.Split <= min(8, c.Tokens/2, ceilDiv(k, slab)); c.Split *= 2 {
					all = append(all, c)
				}
			} else if n, _ := fmt.Sscanf(name, "prefill_m%d_c%d", &c.Tokens, &c.Cluster); n == 2 {
				all = append(all, c)
			}
		}
	}
	return all
}

// guardBytes lie on both sides of an output.
const (
	guardBytes = 256
	guardValue = 0xA5
	poison     = 0xFF // makes a BF16 NaN that no kernel computes
)

// output is memory between guards.
type output struct {
	all, inner Memory
}

func (s *Session) newOutput(bytes int) (output, error) {
	all, err := s.Alloc(bytes + 2*guardBytes)
	if err != nil {
		return output{}, err
	}
	return output{all: all, inner: all.slice(guardBytes, bytes)}, nil
}

// reset poisons the output and sets its guards.
func (o output) reset(s *Session) error {
	if err := s.Fill(o.all, guardValue); err != nil {
		return err
	}
	return s.Fill(o.inner, poison)
}

// download returns the bytes between the guards; a changed guard is an error.
func (o output) download(s *Session, where string) ([]uint8, error) {
	raw := make([]uint8, o.all.Bytes)
	if err := Download(s, raw, o.all); err != nil {
		return nil, err
	}
	for _, side := range [][]uint8{raw[:guardBytes], raw[len(raw)-guardBytes:]} {
		if i := slices.IndexFunc(side, func(b uint8) bool { return b != guardValue }); i >= 0 {
			return nil, wrong(where, fmt.Sprintf("guard byte %d of the output changed", i), "nothing written outside")
		}
	}
	return raw[guardBytes : len(raw)-guardBytes], nil
}

// bf16 downloads the output; a changed guard or an element that was not written
// is an error.
func (o output) bf16(s *Session, where string) ([]uint16, error) {
	raw, err := o.download(s, where)
	if err != nil {
		return nil, err
	}
	y := make([]uint16, len(raw)/2)
	for i := range y {
		y[i] = binary.LittleEndian.Uint16(raw[2*i:])
		if y[i] == poison<<8|poison {
			return nil, wrong(where, fmt.Sprintf("element %d not written", i), "all written")
		}
	}
	return y, nil
}

// float32s is [output.bf16] of FP32.
func (o output) float32s(s *Session, where string) ([]float32, error) {
	raw, err := o.download(s, where)
	if err != nil {
		return nil, err
	}
	y := make([]float32, len(raw)/4)
	for i := range y {
		bits := binary.LittleEndian.Uint32(raw[4*i:])
		if bits == poison<<24|poison<<16|poison<<8|poison {
			return nil, wrong(where, fmt.Sprintf("element %d not written", i), "all written")
		}
		y[i] = math.Float32frombits(bits)
	}
	return y, nil
}

// excess is (||y - want|| - ||bf16(want) - want||) / ||want||: the error beyond
// what storing BF16 costs; a NaN gives NaN.
//
// Let y = bf16(want + e). The distance of a number to the nearest BF16 changes by
// at most |e| when the number does, so |y - want| <= |bf16(want) - want| + 2|e|
// for every element, and excess <= 2||e|| / ||want||. What BF16 costs must be
// computed: it is 1.3e-3 to 1.7e-3 of a norm to which many elements contribute, but
// up to 2^-8 where one dominates.
func excess(y []uint16, want []float64) float64 {
	noise, rounding, signal := 0.0, 0.0, 0.0
	for i, w := range want {
		d := float64(tensor.BF16Value(y[i])) - w
		r := float64(tensor.BF16Value(tensor.BF16Bits(float32(w)))) - w
		noise += d * d
		rounding += r * r
		signal += w * w
	}
	return (math.Sqrt(noise) - math.Sqrt(rounding)) / math.Sqrt(signal)
}
