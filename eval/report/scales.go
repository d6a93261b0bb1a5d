package report

import (
	"maps"
	"math"
	"slices"

	"quantize/packer"
	"quantize/tensor"
)

// The E4M3 codes that the counts are about: 448 is the largest value, those below
// 0x08 are zero and the subnormals.
const (
	e4m3Largest = 0x7e
	e4m3Normal  = 0x08
)

// Scales describes the scales and codes of all quantized weights.
type Scales struct {
	Count     int64     // scales stored
	S8        []int64   // of INT4, by E4M3 code 0..126: the group scales as the kernel holds them
	Largest   int64     // of them at 448
	Subnormal int64     // of them below 2^-6 and not zero
	Zero      int64     // of them
	Log2      []Half    // of the stored scales, zeros left out
	Codes     [16]int64 // of INT4, -8..7
	Saturated int64     // FP8 codes at +-448
	FP8Codes  int64

	halves map[int]int64
}

// Half counts scales of half an octave: 2^(Exponent/2) up to the next.
type Half struct {
	Exponent int // in halves
	Count    int64
}

// add counts the scales of w; s may be nil.
func (s *Scales) add(w packer.Weight) *Scales {
	if s == nil {
		s = &Scales{halves: map[int]int64{}}
	}
	switch w := w.(type) {
	case *packer.Int4Weight:
		s.int4(w)
	case *packer.FP8Weight:
		for _, v := range w.Scales {
			s.stored(float64(v))
		}
		for _, c := range w.Codes {
			if c&0x7f == e4m3Largest {
				s.Saturated++
			}
		}
		s.FP8Codes += int64(len(w.Codes))
	}
	s.Log2 = nil
	for _, e := range slices.Sorted(maps.Keys(s.halves)) {
		s.Log2 = append(s.Log2, Half{e, s.halves[e]})
	}
	return s
}

func (s *Scales) int4(w *packer.Int4Weight) {
	if s.S8 == nil {
		s.S8 = make([]int64, e4m3Largest+1)
	}
	_, s8 := w.Split()
	for _, c := range s8 {
		s.S8[min(c&0x7f, e4m3Largest)]++
		switch {
		case c == e4m3Largest:
			s.Largest++
		case c == 0:
			s.Zero++
		case c < e4m3Normal:
			s.Subnormal++
		}
	}
	for _, v := range w.Scales {
		s.stored(float64(tensor.BF16Value(v)))
	}
	for _, word := range w.Codes {
		for range 8 {
			s.Codes[word&15]++
			word >>= 4
		}
	}
}

func (s *Scales) stored(v float64) {
	s.Count++
	if v > 0 {
		s.halves[int(math.Floor(2*math.Log2(v)))]++
	}
}
