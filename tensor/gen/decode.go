package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func (g *generator) decoders() {
	g.decodeBF16()
	g.decodeF16()
	g.decodeE5M2()
	g.decodeE4M3()
}

func (g *generator) decodeBF16() {
	g.loop("decodeBF16", "writes the values of n BF16.", "float32", "byte", 4, 2, func() {},
		func(dst, src reg.Register, store store) {
			for i := range block / 8 {
				v := g.YMM()
				g.VPMOVZXWD(at(src, 16*i), v)
				g.VPSLLD(operand.U8(16), v, v)
				store(v, at(dst, 32*i))
			}
		})
}

// halves decodes binary16. The conversion of the processor makes a signaling
// NaN quiet; the codec keeps its bits, so that bit 22 of a NaN is taken from
// bit 9 of what it came from.
type halves struct {
	*generator
	quiet reg.VecVirtual // bit 22
}

func (h *halves) constants() { h.quiet = h.every32(1 << 22) }

// decode returns the values of the eight codes in the 16-bit lanes of x.
func (h *halves) decode(x reg.VecVirtual) reg.VecVirtual {
	v, nan, bit := h.YMM(), h.YMM(), h.YMM()
	h.VCVTPH2PS(x, v)
	h.VPMOVZXWD(x, bit)
	h.VPSLLD(operand.U8(13), bit, bit)
	h.VCMPPS(unordered, v, v, nan)
	h.VPAND(h.quiet, nan, nan)
	h.VPAND(nan, bit, bit)
	h.VPANDN(v, nan, v)
	h.VPOR(bit, v, v)
	return v
}

func (g *generator) decodeF16() {
	h := &halves{generator: g}
	g.loop("decodeF16", "writes the values of n binary16.", "float32", "byte", 4, 2, h.constants,
		func(dst, src reg.Register, store store) {
			for i := range block / 8 {
				x := g.XMM()
				g.VMOVDQU(at(src, 16*i), x)
				store(h.decode(x), at(dst, 32*i))
			}
		})
}

// decodeE5M2: a code is the upper byte of a binary16.
func (g *generator) decodeE5M2() {
	h := &halves{generator: g}
	g.loop("decodeE5M2", "writes the values of n E5M2.", "float32", "byte", 4, 1, h.constants,
		func(dst, src reg.Register, store store) {
			for i := range block / 8 {
				x := g.XMM()
				g.VPMOVZXBW(at(src, 8*i), x)
				g.VPSLLW(operand.U8(8), x, x)
				store(h.decode(x), at(dst, 32*i))
			}
		})
}

// decodeE4M3: exponent and mantissa are those of a binary16 that is 2^-8 times
// the value, its bias being 8 more, subnormal or not. The NaN becomes that of
// binary16, 0x7E00.
func (g *generator) decodeE4M3() {
	const nanBits = 0x7F << 7 // of an E4M3 in its place
	var bits, sign, nan, flip, factor reg.VecVirtual
	constants := func() {
		bits, sign = g.every16(0x8000|nanBits), g.every16(0x8000)
		nan, flip = g.every16(0x8000|nanBits), g.every16(nanBits^0x7E00)
		factor = g.every32(0x43800000) // 256
	}
	g.loop("decodeE4M3", "writes the values of n E4M3.", "float32", "byte", 4, 1, constants,
		func(dst, src reg.Register, store store) {
			for i := range block / 16 {
				x, isNaN := g.YMM(), g.YMM()
				g.VPMOVSXBW(at(src, 16*i), x)
				g.VPSLLW(operand.U8(7), x, x) // the sign is in the bits 15 and 14
				g.VPAND(bits, x, x)
				g.VPOR(sign, x, isNaN)
				g.VPCMPEQW(nan, isNaN, isNaN)
				g.VPAND(flip, isNaN, isNaN)
				g.VPXOR(isNaN, x, x)
				low, high, upper := g.YMM(), g.YMM(), g.XMM()
				g.VEXTRACTI128(operand.U8(1), x, upper)
				g.VCVTPH2PS(x.AsX(), low)
				g.VCVTPH2PS(upper, high)
				for h, v := range []reg.VecVirtual{low, high} {
					g.VMULPS(factor, v, v)
					store(v, at(dst, 64*i+32*h))
				}
			}
		})
}
