package packer

import "quantize/tensor"

// floorChan is the smallest row factor: 1/(448*512) in FP32.
const floorChan float32 = 1.0 / (448 * 512)

// Shape returns N and K.
func (w *Int4Weight) Shape() (n, k int) { return w.N, w.K }

// ActivationBits is 8 when activations are rounded to FP8, else 16.
func (w *Int4Weight) ActivationBits() int {
	if w.FP8Activations {
		return 8
	}
	return 16
}

// Split derives what vLLM derives while loading: per row
// chan = max(max_g s/448, 1/(448*512)) in FP32, per group s8 = e4m3(s/chan).
// chans has length N, s8 holds E4M3 bytes in the layout of Scales.
func (w *Int4Weight) Split() (chans []float32, s8 []uint8) {
	chans = make([]float32, w.N)
	s8 = make([]uint8, len(w.Scales))
	groups := w.K / w.GroupSize
	for n := range chans {
		chans[n] = splitRow(s8[n*groups:][:groups], w.Scales[n*groups:][:groups])
	}
	return chans, s8
}

// splitRow fills s8 and returns chan for the BF16 scales of one row.
func splitRow(s8 []uint8, scales []uint16) float32 {
	var top float32
	for _, s := range scales {
		if v := tensor.BF16Value(s); v > top {
			top = v
		}
	}
	ch := max(top/448, floorChan)
	for g, s := range scales {
		s8[g] = tensor.E4M3(tensor.BF16Value(s) / ch)
	}
	return ch
}

// Products returns the 16 values that arithmetic a multiplies for the codes
// -8..7 of a group with stored scale s (BF16 bits), E4M3 scale s8 and row factor
// ch: entry q+8 belongs to code q.
//
//	LUT:        e4m3(q * e4m3(s8/8)) * 8*ch
//	Exact:      (q * 8*e4m3(s8/8)) * ch
//	WeightOnly: q * s
func Products(a Arithmetic, s uint16, s8 uint8, ch float32) (p [16]float32) {
	scale := tensor.BF16Value(s)
	t := tensor.E4M3Value(tensor.E4M3(tensor.E4M3Value(s8) / 8))
	for i := range p {
		q := float32(i - 8)
		switch a {
		case LUT:
			p[i] = tensor.E4M3Value(tensor.E4M3(q*t)) * (8 * ch)
		case Exact:
			p[i] = float32(q*(8*t)) * ch
		case WeightOnly:
			p[i] = q * scale
		default:
			panic("packer: unknown arithmetic")
		}
	}
	p[8] = 0 // not -0, whatever the scale
	return p
}

// Decode writes the values that arithmetic a multiplies into dst (N, K).
func (w *Int4Weight) Decode(dst tensor.Matrix, a Arithmetic) {
	if dst.Rows != w.N || dst.Cols != w.K {
		panic("packer: destination of Decode has another shape")
	}
	groups, words := w.K/w.GroupSize, w.GroupSize/8
	s8 := make([]uint8, groups)
	for n := range w.N {
		scales := w.Scales[n*groups:][:groups]
		ch := splitRow(s8, scales)
		row := dst.Row(n)
		for g := range groups {
			p := Products(a, scales[g], s8[g], ch)
			codes := w.Codes[(n*groups+g)*words:][:words]
			out := row[g*w.GroupSize:][:w.GroupSize]
			for j, c := range codes {
				o := out[8*j : 8*j+8 : 8*j+8]
				for i := range o {
					o[i] = p[c&15]
					c >>= 4
				}
			}
		}
	}
}
