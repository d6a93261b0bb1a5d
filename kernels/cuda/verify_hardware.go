//go:build cuda

package cuda

import (
	"fmt"
	"math/rand/v2"

	"quantize/tensor"
)

// fragmentsArgument is struct Fragments of probe.cu.
type fragmentsArgument struct{ A, B, D uint64 }

// multiplyTiles computes D (64, 8) = A (64, 32) · B (8, 32)ᵀ for each batch.
func (s *Session) multiplyTiles(a, b []uint8) ([]float32, error) {
	batches := len(a) / (64 * 32)
	d := make([]float32, batches*64*8)
	ma, err := AllocOf(s, a)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Free(ma) }()
	mb, err := AllocOf(s, b)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Free(mb) }()
	md, err := AllocOf(s, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Free(md) }()
	argument := &fragmentsArgument{A: ma.Address, B: mb.Address, D: md.Address}
	if err := launch(s, "probe_wgmma", Launch{Grid: Dim{X: batches}, Threads: 128}, argument, fmt.Sprintf("%d tiles", batches)); err != nil {
		return nil, err
	}
	return d, Download(s, d, md)
}

// checkByteProducts multiplies the bytes that codes expand to (0x00..0x0F and
// their negatives) with all 256 E4M3 bytes, one at a time, at every k.
func checkByteProducts(s *Session) error {
	const batches = 32
	a, b := make([]uint8, batches*64*32), make([]uint8, batches*8*32)
	weight := func(row int) uint8 { return uint8(row%16 | row/16%2<<7) }
	for i := range batches {
		for row := range 64 {
			a[(i*64+row)*32+i] = weight(row)
		}
		for token := range 8 {
			b[(i*8+token)*32+i] = uint8(8*i + token)
		}
	}
	d, err := s.multiplyTiles(a, b)
	if err != nil {
		return err
	}
	for i := range batches {
		for row := range 64 {
			for token := range 8 {
				got := d[(i*64+row)*8+token]
				want := tensor.E4M3Value(weight(row)) * tensor.E4M3Value(uint8(8*i+token))
				if got != want && (got == got || want == want) {
					return wrong(fmt.Sprintf("byte %#02x times byte %#02x", weight(row), 8*i+token), fmt.Sprint(got), fmt.Sprint(want))
				}
			}
		}
	}
	return nil
}

// checkFragments reads every element of A through one-hot tokens, and sums of
// random integers.
func checkFragments(s *Session) error {
	r := rand.New(rand.NewPCG(1, 1))
	const batches = 8
	a, b := make([]uint8, batches*64*32), make([]uint8, batches*8*32)
	for i := range a {
		a[i] = uint8(r.IntN(16) | r.IntN(2)<<7)
	}
	for i := range batches {
		for token := range 8 {
			for k := range 32 {
				if i < 4 && k == 8*i+token {
					b[(i*8+token)*32+k] = 0x38 // 1
				} else if i >= 4 {
					b[(i*8+token)*32+k] = tensor.E4M3(float32(r.IntN(9) - 4))
				}
			}
		}
	}
	d, err := s.multiplyTiles(a, b)
	if err != nil {
		return err
	}
	for i := range batches {
		for row := range 64 {
			for token := range 8 {
				want := float32(0)
				for k := range 32 {
					want += tensor.E4M3Value(a[(i*64+row)*32+k]) * tensor.E4M3Value(b[(i*8+token)*32+k])
				}
				if got := d[(i*64+row)*8+token]; got != want {
					return wrong(fmt.Sprintf("tile %d, row %d, token %d", i, row, token), fmt.Sprint(got), fmt.Sprint(want))
				}
			}
		}
	}
	return nil
}
